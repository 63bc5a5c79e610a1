"""A registry's refusals as errors: what it said, and what a user can do about it.

Rules:
- The body of an error (distribution-spec "Error Codes") is read up to a limit, and only its first
  message is shown, on one line, cut, and without anything secret that we sent.
- Where: the repository or URL without its query, which may hold signatures.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from dockyard.errors import DockyardError, RegistryError
from dockyard.fetch.http import retry_after
from dockyard.oci.registry.api import Absent, Denied
from dockyard.oci.registry.attempts import AGAIN, Again

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpx

_MOST = 64 << 10
_SHOWN = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")


def shown_url(url: str) -> str:
    """The URL without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that can't be read"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def refusal(
    response: httpx.Response,
    *,
    doing: str,
    where: str,
    secrets: Iterable[str] = (),
    login: str = "",
) -> RegistryError | Again:
    """What to raise for a response that isn't what was hoped for; reads its body.

    doing: what was being done, as in "pushing the manifest"; login: where the one in use is from.
    Again where it may pass.
    """
    status = response.status_code
    code, message = _said(response, secrets)
    what = f"{doing}: the registry answers {status}"
    if message or code:
        what += f", {message or code}"
    error = _kind(status)(what, where=where, hint=_hint(status, code, login))
    if status in AGAIN:
        return Again(error, retry_after(response))
    return error


def _kind(status: int) -> type[RegistryError]:
    if status in (401, 403):
        return Denied
    return Absent if status == 404 else RegistryError


def _hint(status: int, code: str, login: str) -> str | None:
    if status == 401 and login:
        return f"The login from {login} isn't accepted; log in again with `dockyard login`."
    if status == 401:
        return "Log in with `dockyard login`, or check the name: registries answer so for both."
    if status == 403:
        return "This login may not do that here; check the name and the login's rights."
    if code == "NAME_UNKNOWN":
        return "Check the repository's name."
    if status == 429:
        return "Wait a while, or log in: registries allow logged-in users more."
    if status in AGAIN:
        return "Run again later; what was transferred is kept."
    if status == 413:
        return "The registry, or a proxy before it, limits sizes; its owner can raise the limit."
    return None


def _said(response: httpx.Response, secrets: Iterable[str]) -> tuple[str, str]:
    """Code and message of the first error in the body, fit to be shown."""
    data = b""
    try:
        for chunk in response.iter_bytes(8192):
            data += chunk
            if len(data) > _MOST:
                break
    except Exception as error:  # what the status says is enough
        if isinstance(error, DockyardError):
            raise
    try:
        first = json.loads(data)["errors"][0]
        code, message = str(first.get("code") or ""), str(first.get("message") or "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        code, message = "", response.reason_phrase
    return fit(code, secrets), fit(message, secrets)


def fit(text: str, secrets: Iterable[str]) -> str:
    """The text on one line, without control characters and secrets, cut."""
    for secret in secrets:
        text = text.replace(secret, "…")
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
