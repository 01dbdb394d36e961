"""Refusals as problem details (RFC 9457): one JSON shape for everything that goes wrong."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sipagent.http.control import Refusal, Refused

MEDIA_TYPE: Final = "application/problem+json"

STATUS: Final[Mapping[Refusal, tuple[int, str]]] = {
    Refusal.NO_SUCH_CALL: (404, "There is no such call"),
    Refusal.WRONG_STATE: (409, "The call is not in a state for this"),
    Refusal.NO_SUCH_TRUNK: (422, "There is no such trunk"),
    Refusal.NO_CAPTURE: (404, "The call has no capture"),
    Refusal.NO_RECORDING: (404, "The call has no recording"),
    Refusal.NO_SUCH_BRAIN: (422, "There is no such brain"),
    Refusal.NO_ROUTE: (422, "No route fits the call"),
    Refusal.DESTINATION_NOT_ALLOWED: (422, "The destination is not allowed"),
    Refusal.TOO_MANY_REQUESTS: (429, "Too many calls are placed"),
    Refusal.NO_CAPACITY: (503, "No capacity for another call"),
    Refusal.TRUNK_UNAVAILABLE: (503, "The trunk is not available"),
    Refusal.DRAINING: (503, "The service is shutting down"),
}


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it a problem
    """Raised by the endpoint itself; `kind` becomes the last part of the problem's type."""

    def __init__(
        self, status: int, kind: str, title: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.kind, self.title, self.detail, self.headers = status, kind, title, detail, headers
        super().__init__(detail)


def problem(
    status: int, kind: str, title: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """A response; `kind` "" is about:blank, for what the status says already."""
    body = {
        "type": f"tag:sipagent,2026:{kind}" if kind else "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        **more,
    }
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of the application leave as a problem."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(Problem, _raised)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


# In place of the validator's own words, which speak of "inputs" and "dictionaries".
WORDS: Final = {
    "extra_forbidden": "is no field of this request; /docs lists them",
    "missing": "is missing",
    "model_attributes_type": "send a JSON object, with Content-Type: application/json",
    "model_type": "send a JSON object, with Content-Type: application/json",
}


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    status, title = STATUS[error.refusal]
    headers = {"Retry-After": str(error.retry_after_seconds)} if error.retry_after_seconds else None
    return problem(status, error.refusal.value, title, error.detail, headers)


async def _raised(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return problem(error.status, error.kind, error.title, error.detail, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # The input itself is not repeated: it may hold what must not be read in a log.
    errors = [
        {
            "field": ".".join(str(part) for part in one["loc"][1:]) or "body",
            "problem": WORDS.get(one["type"], one["msg"].removeprefix("Value error, ")),
        }
        for one in error.errors()
    ]
    detail = "; ".join(f"{one['field']}: {one['problem']}" for one in errors)
    return problem(422, "invalid-request", "The request is not valid", detail, errors=errors)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, "", HTTPStatus(error.status_code).phrase, error.detail, error.headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # The server logs the traceback; the caller learns nothing of our insides.
    return problem(500, "", "Internal Server Error", "this is a fault of the service; its log tells more")
