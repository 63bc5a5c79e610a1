"""Every path of the server, and what answers it.

Rules: inference paths run without a coroutine, from the bytes that arrive to the queue; all others
are coroutines. What isn't an inference never waits for a model.
"""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import orjson

from dockyard_serve.errors import BadRequest, LoadError, Unauthorized
from dockyard_serve.http.exchange import Exchange
from dockyard_serve.http.head import Head
from dockyard_serve.http.message import Extension, Request, Response, Route, json_response
from dockyard_serve.http.router import Answer, Router
from dockyard_serve.http.server import HttpServer
from dockyard_serve.metrics import Metrics
from dockyard_serve.model import Model, TensorSpec
from dockyard_serve.predictions.served import ServedLog
from dockyard_serve.process import observe_process
from dockyard_serve.protocols.oip import HEADER_LENGTH, InferRequest, read_infer, write_infer
from dockyard_serve.protocols.plain import PlainRequest, read_plain, write_plain
from dockyard_serve.protocols.tfserving import RowRequest, read_predict, write_predict
from dockyard_serve.repository import Repository
from dockyard_serve.serving import AnsweredBy, Served, Speaks
from dockyard_serve.settings import ServerSettings

log = logging.getLogger("dockyard.serve")

EXTENSIONS = ("binary_tensor_data", "model_repository", "parameters")
_FOLDERS = re.compile(r"(?:/[^\s/:]+)+/")
_OPEN = frozenset({"/docs", "/healthz", "/v2/health/live", "/v2/health/ready"})

OIP: Speaks[InferRequest] = Speaks(
    "oip",
    lambda signature, exchange: read_infer(
        signature, exchange.body, exchange.head.headers.get(HEADER_LENGTH)
    ),
    write_infer,
)
PLAIN: Speaks[PlainRequest] = Speaks(
    "predict",
    lambda signature, exchange: read_plain(
        signature, exchange.body, exchange.head.headers.get("content-type", "")
    ),
    write_plain,
)
TFSERVING: Speaks[RowRequest] = Speaks(
    "v1", lambda signature, exchange: read_predict(signature, exchange.body), write_predict
)


class Control(Protocol):
    """Loads and unloads models in all workers."""

    async def load(self, name: str) -> None: ...
    async def unload(self, name: str) -> None: ...


class App:
    """The paths over a repository of models."""

    def __init__(
        self,
        repository: Repository,
        metrics: Metrics,
        settings: ServerSettings,
        *,
        version: str,
        control: Control | None = None,
        extensions: Sequence[Extension] = (),
        predictions: ServedLog | None = None,
    ) -> None:
        self.repository = repository
        self._predictions = predictions
        self._metrics = metrics
        self._settings = settings
        self._version = version
        self._control: Control = control or repository
        self._router = Router()
        self.started = False
        self.http = HttpServer(
            self._router,
            settings.limits,
            guard=self._guard,
            add_headers=self._cors_headers if settings.cors_origins else None,
            preflight=self._preflight if settings.cors_origins else None,
            open_connections=metrics.value("dockyard_connections"),
            on_answer=_each(
                log_access if settings.access_log else None,
                predictions.record if predictions is not None else None,
            ),
        )
        self._add_inference()
        self._add_metadata()
        self._add_repository()
        for extension in extensions:
            for route in extension(repository):
                self._route(route)

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.started and not self.http.draining and self.repository.all_ready()

    # Paths.

    def _route(self, route: Route) -> None:
        self._router.add(route.method, route.path, self.http.coroutine(route.handler))

    def _get(self, path: str, handler: Callable[[Request], Response]) -> None:
        async def answer(request: Request) -> Response:
            return handler(request)

        self._route(Route(method="GET", path=path, handler=answer))

    def _add_inference(self) -> None:
        for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            self._router.add("POST", f"{base}/infer", self._inference(OIP))
        for base in ("/v1/models/{model}", "/v1/models/{model}/versions/{version}"):
            self._router.add("POST", f"{base}:predict", self._inference(TFSERVING))
        self._router.add("POST", "/predict", self._predict)
        for base in ("/models/{model}", "/models/{model}/versions/{version}"):
            self._router.add("POST", f"{base}/predict", self._predict)

    def _inference(self, protocol: Speaks[Any]) -> Answer:
        find = self.repository.find

        def answer(exchange: Exchange) -> None:
            params = exchange.params
            served = find(params["model"], params.get("version"))
            served.answer(protocol, exchange)

        return answer

    def _predict(self, exchange: Exchange) -> None:
        served = self._served(exchange)
        if served.object_model is None:
            served.answer(PLAIN, exchange)
        else:
            self._answer_object(exchange)

    def _served(self, exchange: Exchange) -> Served:
        name = exchange.params.get("model")
        if name is None:
            return self.repository.only()
        return self.repository.find(name, exchange.params.get("version"))

    def _answer_object(self, exchange: Exchange) -> None:
        served = self._served(exchange)
        model = served.object_model
        assert model is not None
        exchange.about = AnsweredBy(served.model.name, served.model.version)

        async def handler(request: Request) -> Response:
            return await served.counted(model.answer(request, served.queue(exchange)))

        self.http.coroutine(handler)(exchange)

    def _add_metadata(self) -> None:
        self._get("/healthz", self._healthz)
        self._get("/metrics", self._show_metrics)
        self._get("/v2", lambda request: json_response(self.server_metadata()))
        self._get("/v2/health/live", lambda request: json_response({"live": True}))
        self._get("/v2/health/ready", self._ready)
        for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            self._get(base, self._model_metadata)
            self._get(f"{base}/ready", self._model_ready)
            self._get(f"{base}/config", self._model_config)
        self._get("/v1/models/{model}", self._v1_status)
        self._get("/v1/models/{model}/versions/{version}", self._v1_status)
        self._get("/v1/models", lambda request: json_response({"models": self._names()}))

    def _names(self) -> list[str]:
        return [model.name for model in self.repository.ready()]

    def _healthz(self, request: Request) -> Response:
        status = "ok" if self.is_ready else "stopping" if self.http.draining else "not ready"
        return json_response(
            {"status": status, "models": self._names()}, status=200 if self.is_ready else 503
        )

    def _ready(self, request: Request) -> Response:
        return json_response({"ready": self.is_ready}, status=200 if self.is_ready else 503)

    def _show_metrics(self, request: Request) -> Response:
        for served in self.repository.served():
            served.refresh()
        observe_process(self._metrics)
        if self._predictions is not None:
            self._predictions.count(self._metrics)
        return Response(
            media_type="text/plain; version=0.0.4; charset=utf-8",
            body=self._metrics.text().encode(),
        )

    def server_metadata(self) -> dict[str, object]:
        """The server's metadata, as the protocol names it."""
        return {"name": "dockyard", "version": self._version, "extensions": list(EXTENSIONS)}

    def _found(self, request: Request) -> Served:
        return self.repository.find(request.params["model"], request.params.get("version"))

    def _model_metadata(self, request: Request) -> Response:
        served = self._found(request)
        return json_response(model_metadata(served.model, self.repository))

    def _model_ready(self, request: Request) -> Response:
        served = self._found(request)
        return json_response({"name": served.model.name, "ready": True})

    def _model_config(self, request: Request) -> Response:
        return json_response(model_config(self._found(request)))

    def _v1_status(self, request: Request) -> Response:
        name = request.params["model"]
        self._found(request)
        rows = [row for row in self.repository.index() if row["name"] == name]
        return json_response(
            {
                "name": name,
                "ready": True,
                "model_version_status": [
                    {
                        "version": row["version"],
                        "state": "AVAILABLE" if row["state"] == "READY" else row["state"],
                        "status": {"error_code": "OK", "error_message": row["reason"]},
                    }
                    for row in rows
                ],
            }
        )

    def _add_repository(self) -> None:
        base = "/v2/repository"
        self._route(Route(method="POST", path=f"{base}/index", handler=self._index))
        self._route(Route(method="POST", path=f"{base}/models/{{model}}/load", handler=self._load))
        self._route(
            Route(method="POST", path=f"{base}/models/{{model}}/unload", handler=self._unload)
        )

    async def _index(self, request: Request) -> Response:
        rows = self.repository.index()
        try:
            asked = orjson.loads(request.body) if request.body else {}
        except orjson.JSONDecodeError:
            raise BadRequest("the body isn't JSON") from None
        if isinstance(asked, dict) and asked.get("ready"):
            rows = [row for row in rows if row["state"] == "READY"]
        return json_response(rows)

    async def _load(self, request: Request) -> Response:
        name = request.params["model"]
        try:
            await self._control.load(name)
        except LoadError as error:
            log.error("%s", error, extra={"model": name})
            told = _FOLDERS.sub("", error.what)  # Where things are is no client's business.
            raise BadRequest(f"model {name!r} can't be loaded: {told}") from None
        return json_response({})

    async def _unload(self, request: Request) -> Response:
        await self._control.unload(request.params["model"])
        return json_response({})

    # Who may ask.

    def _guard(self, head: Head, target: str) -> None:
        """Raise Unauthorized unless a known API key comes with the request."""
        keys = self._settings.api_keys
        if not keys or target in _OPEN:
            return
        scheme, _, given = head.headers.get("authorization", "").partition(" ")
        sent = given.strip().encode()
        known = [hmac.compare_digest(sent, key.encode()) for key in keys]
        if scheme.lower() != "bearer" or not any(known):
            raise Unauthorized("send a known API key: Authorization: Bearer KEY")

    def _cors_headers(self, head: Head) -> Iterable[tuple[str, str]]:
        origin = head.headers.get("origin")
        allowed = self._settings.cors_origins
        if origin is None or not ("*" in allowed or origin in allowed):
            return ()
        if "*" in allowed:
            return (("Access-Control-Allow-Origin", "*"),)
        return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))

    def _preflight(self, exchange: Exchange) -> None:
        asked = exchange.head.headers.get("access-control-request-headers", "")
        headers = [
            ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
            ("Access-Control-Max-Age", "600"),
        ]
        if asked.isascii() and asked.isprintable() and asked:
            headers.append(("Access-Control-Allow-Headers", asked))
        exchange.send(b"", status=204, media_type=b"", headers=headers)


def _described(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def model_metadata(model: Model, repository: Repository) -> dict[str, object]:
    """A model's metadata, as the protocol names it."""
    return {
        "name": model.name,
        "versions": repository.versions(model.name),
        "platform": model.platform,
        "inputs": [_described(spec) for spec in model.inputs],
        "outputs": [_described(spec) for spec in model.outputs],
    }


def model_config(served: Served) -> dict[str, object]:
    """The part of Triton's model configuration that clients read."""
    model = served.model
    skip = 1 if served.signature.batched else 0

    def listed(specs: Sequence[TensorSpec]) -> list[dict[str, object]]:
        return [
            {
                "name": spec.name,
                "data_type": "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}",
                "dims": spec.shape[skip:],
            }
            for spec in specs
        ]

    return {
        "name": model.name,
        "platform": model.platform,
        "max_batch_size": served.limits.max_batch_size if skip else 0,
        "input": listed(model.inputs),
        "output": listed(model.outputs),
    }


def _each(*hooks: Callable[[Exchange], None] | None) -> Callable[[Exchange], None] | None:
    """One hook for those that there are."""
    there = [hook for hook in hooks if hook is not None]
    if len(there) < 2:
        return there[0] if there else None

    def call(exchange: Exchange) -> None:
        for hook in there:
            hook(exchange)

    return call


def log_access(exchange: Exchange) -> None:
    """One line for an answered request."""
    head = exchange.head
    log.info(
        "request",
        extra={
            "method": head.method,
            "path": head.target,
            "status": exchange.status,
            "seconds": round(time.perf_counter() - exchange.received, 6),
            "request_id": exchange.id,
            "traceparent": head.headers.get("traceparent"),
        },
    )
