"""A request's body as the values of a predictor's parameters, not yet checked.

Rules: JSON is an object with the parameters' names; a form (multipart or urlencoded) has fields of
those names, files uploaded, lists as repeated fields or as JSON. A bare file is taken for the one
parameter that is a file. NaN isn't JSON, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson

from dockyard_serve.errors import BadRequest, UnsupportedMediaType
from dockyard_serve.marks import File

if TYPE_CHECKING:
    from dockyard_serve.http.message import Request
    from dockyard_serve.predictor.signature import Parameter

_MOST_PARTS = 1000


def read_body(request: Request, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The values by name; raises BadRequest or UnsupportedMediaType."""
    header = request.headers.get("content-type", "")
    kind = header.partition(";")[0].strip().lower()
    if kind in ("", "application/json") or kind.endswith("+json"):
        return _from_json(request.body)
    if kind == "application/x-www-form-urlencoded":
        if request.body.lstrip()[:1] == b"{":
            return _from_json(request.body)  # What `curl -d` calls JSON, if not told better.
        return _from_urlencoded(request.body, parameters)
    if kind == "multipart/form-data":
        return _gather(_parts(header, request.body), parameters)
    files = [item for item in parameters if item.kind != "plain" and not item.many]
    required = [item for item in parameters if item.required]
    if len(files) == 1 and all(item is files[0] for item in required):
        return {files[0].name: File(data=request.body, media_type=kind)}
    raise UnsupportedMediaType(
        f"a body of {kind[:80]} can't be read",
        expected="application/json, multipart/form-data or application/x-www-form-urlencoded",
    )


def _from_json(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequest(f"the body isn't JSON: {error.msg.split(':')[0]} at {where}") from None
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object with the parameters by name")
    return document


def _from_urlencoded(body: bytes, parameters: Sequence[Parameter]) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=_MOST_PARTS,
        )
    except ValueError:
        raise BadRequest("the body isn't a urlencoded form in UTF-8") from None
    return _gather(pairs, parameters)


def _gather(
    pairs: Sequence[tuple[str, str | File]], parameters: Sequence[Parameter]
) -> dict[str, Any]:
    """Fields by name: repeated ones are a list, texts of what isn't text are JSON."""
    known = {item.name: item for item in parameters}
    found: dict[str, list[Any]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(_value(value, known.get(name)))
    gathered: dict[str, Any] = {}
    for name, values in found.items():
        many = name in known and known[name].many
        alone = len(values) == 1 and (not many or isinstance(values[0], list))
        gathered[name] = values[0] if alone else values
    return gathered


def _value(value: str | File, parameter: Parameter | None) -> Any:
    if isinstance(value, File) or parameter is None:
        return value
    if parameter.is_text and not parameter.many:
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def _parts(header: str, body: bytes) -> list[tuple[str, str | File]]:
    """The parts of a multipart form (RFC 7578), by name."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    _, options = parse_options_header(header)
    boundary = options.get(b"boundary")
    if not boundary:
        raise BadRequest("the form's Content-Type has no boundary")
    collector = _Collector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise BadRequest(f"the form can't be read: {str(error)[:200]}") from None
    if not collector.ended:
        raise BadRequest("the form ends before its last boundary")
    return collector.parts


class _Collector:
    """Puts a form's parts together from the parser's events."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, str | File]] = []
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._data: list[bytes] = []

    def callbacks(self) -> Mapping[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.parts) >= _MOST_PARTS:
            raise BadRequest(f"the form has more than {_MOST_PARTS} parts")
        self._headers, self._data = {}, []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _end(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name")
        if name is None:
            raise BadRequest("a part of the form has no name")
        data = b"".join(self._data)
        if b"filename" in options:
            kind = self._headers.get(b"content-type", b"application/octet-stream")
            value: str | File = File(
                data=data,
                name=options[b"filename"].decode("utf-8", "replace"),
                media_type=kind.decode("latin-1"),
            )
        else:
            try:
                value = data.decode("utf-8")
            except UnicodeDecodeError:
                raise BadRequest("a field of the form isn't UTF-8") from None
        self.parts.append((name.decode("utf-8", "replace"), value))

    def _finish(self) -> None:
        self.ended = True
