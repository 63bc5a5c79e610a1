"""Every error of the server: what was wrong, what was expected, and the status that says so.

    ServeError
    ├── ClientError                  4xx: the request is wrong; the same request fails again
    │   ├── BadRequest               400  not HTTP, not JSON, not the protocol
    │   ├── InvalidInput             400  a tensor or field: its name, what was expected, what came
    │   ├── Unauthorized             401  no API key, or one that isn't known
    │   ├── NotFound                 404  no such path, model or version
    │   ├── MethodNotAllowed         405
    │   ├── RequestTimeout           408  the client sends too slowly
    │   ├── PayloadTooLarge          413
    │   ├── UnsupportedMediaType     415
    │   └── HeadTooLarge             431
    └── ServerError                  5xx: the request may be right
        ├── ModelFailed              500  the model raised; the cause goes to the log only
        ├── NotImplementedHere       501
        ├── Unavailable              503  starting, stopping, or the model isn't ready
        ├── Overloaded               503  the queue is full; carries Retry-After
        └── DeadlineExceeded         504
    LoadError                        a model can't be loaded: tells the operator, never a client

Rules: the message goes to the client as it is, so it never holds a path of the server, a stack
trace or another exception's text, unless the model's author raised it for the client to read.
"""

from __future__ import annotations


class ServeError(Exception):
    """The base of all errors answered to clients; `details` are further keys of the JSON answer."""

    status = 500

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @property
    def headers(self) -> dict[str, str]:
        """Response headers that belong to the error."""
        return {}

    def body(self) -> dict[str, object]:
        """The JSON answer: `error` as the Open Inference Protocol names it, then the details."""
        return {"error": self.message, **self.details}


class ClientError(ServeError):
    """The request is wrong."""

    status = 400


class BadRequest(ClientError):
    """The request isn't HTTP, JSON, or what the protocol asks for."""


class InvalidInput(ClientError):
    """A tensor or field isn't what the model takes.

    name: of the input; expected and received: datatype and shape, or a type, in words.
    """

    def __init__(
        self,
        message: str,
        *,
        name: str | None = None,
        expected: str | None = None,
        received: str | None = None,
    ) -> None:
        details = {"input": name, "expected": expected, "received": received}
        super().__init__(message, **{key: text for key, text in details.items() if text})


class Unauthorized(ClientError):
    """The API key is missing or not known."""

    status = 401

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class NotFound(ClientError):
    """No such path, model or version."""

    status = 404


class MethodNotAllowed(ClientError):
    """The path exists, but not for this method; `allowed` are the methods it has."""

    status = 405

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": ", ".join(self.allowed)}


class RequestTimeout(ClientError):
    """The client sends its request too slowly."""

    status = 408


class PayloadTooLarge(ClientError):
    """The body is larger than the server takes."""

    status = 413


class UnsupportedMediaType(ClientError):
    """The body's media type or encoding isn't one the path takes."""

    status = 415


class HeadTooLarge(ClientError):
    """Request line and headers are larger than the server takes."""

    status = 431


class ServerError(ServeError):
    """The server couldn't do what may be a right request."""


class ModelFailed(ServerError):
    """The model raised an exception, which is in the log."""


class NotImplementedHere(ServerError):
    """The request asks for something this server doesn't do."""

    status = 501


class Unavailable(ServerError):
    """The server or the model isn't ready."""

    status = 503

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "1"}


class Overloaded(Unavailable):
    """The queue is full; `retry_after` in whole seconds."""

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = max(1, retry_after)

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)}


class DeadlineExceeded(ServerError):
    """The answer wasn't there in time; what hadn't started was dropped."""

    status = 504


class LoadError(Exception):
    """A model can't be loaded: `what` happened, `where` (file, key), and the next step (`hint`).

    For the operator's terminal and log; a client that asked for the load gets `what` alone.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.hint is None else f"{text}\n{self.hint}"
