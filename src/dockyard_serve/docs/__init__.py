"""`/docs` and `/openapi.json`: what the models take and give, and a page to try them by hand.

Rules: both are made from the models that are ready when they are asked for. The page is one file
of our own, which loads nothing from elsewhere: it works without a network.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import orjson

from dockyard_serve.docs.openapi import openapi_document
from dockyard_serve.http.message import Request, Response, Route

if TYPE_CHECKING:
    from dockyard_serve.http.message import Models

__all__ = ["openapi_document", "routes"]


def routes(models: Models) -> Sequence[Route]:
    """The two paths, as an extension of the server."""

    async def page(request: Request) -> Response:
        body, policy = _page()
        headers = (("Content-Security-Policy", policy), ("X-Content-Type-Options", "nosniff"))
        return Response(media_type="text/html; charset=utf-8", headers=headers, body=body)

    async def document(request: Request) -> Response:
        return Response(body=orjson.dumps(openapi_document(models.ready())))

    return [
        Route(method="GET", path="/docs", handler=page),
        Route(method="GET", path="/openapi.json", handler=document),
    ]


@lru_cache
def _page() -> tuple[bytes, str]:
    """The page, and the policy that lets its own script and style run, and nothing else."""
    body = resources.files("dockyard_serve.docs").joinpath("page.html").read_bytes()
    policy = ["default-src 'none'", "connect-src 'self'", "img-src data: blob:", "base-uri 'none'"]
    for directive, tag in (("script-src", b"script"), ("style-src", b"style")):
        found = re.search(rb"<%b>(.*?)</%b>" % (tag, tag), body, re.DOTALL)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1]).digest()).decode()
        policy.append(f"{directive} 'sha256-{digest}'")
    return body, "; ".join(policy)
