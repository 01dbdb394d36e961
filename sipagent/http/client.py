"""The command line's way to a running service: the HTTP endpoint, over TCP or its Unix socket."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx2

from sipagent.errors import SipagentError

TIMEOUT_SECONDS: Final = 10.0


class EndpointError(SipagentError):
    """The service did not answer, or refused; the text is for the reader."""


class Endpoint:
    """A service at `listen` ("127.0.0.1:8080" or "unix:/path"); a context manager."""

    def __init__(self, listen: str, token: str = "", transport: httpx2.BaseTransport | None = None) -> None:
        self._listen = listen
        base = f"http://{listen}"
        if listen.startswith("unix:"):
            base = "http://sipagent"
            transport = transport or httpx2.HTTPTransport(uds=listen.removeprefix("unix:"))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx2.Client(base_url=base, headers=headers, timeout=TIMEOUT_SECONDS, transport=transport)

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        """The JSON of a GET; raises EndpointError."""
        return self._answer("GET", path)

    def text(self, path: str) -> str:
        """The text of a GET; raises EndpointError."""
        return self._response("GET", path).text

    def download(self, path: str) -> Iterator[bytes]:
        """The body of a GET, piece by piece; raises EndpointError."""
        try:
            with self._client.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                    raise _refusal(response)
                yield from response.iter_bytes()
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    def delete(self, path: str) -> Any:
        """The JSON answer of a DELETE; raises EndpointError."""
        return self._answer("DELETE", path)

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """The JSON answer of a POST; raises EndpointError."""
        return self._answer("POST", path, body, headers)

    def events(self, call_id: str) -> Iterator[dict[str, Any]]:
        """The events of a call until it ends; raises EndpointError."""
        try:
            with self._client.stream("GET", f"/v1/calls/{call_id}/events", timeout=None) as response:
                if response.is_error:
                    response.read()
                    raise _refusal(response)
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        yield json.loads(line.removeprefix("data: "))
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        return self._response(method, path, body, headers).json()

    def _response(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        try:
            response = self._client.request(method, path, json=body, headers=dict(headers or {}))
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _refusal(response)
        return response

    def _unreachable(self, error: Exception) -> EndpointError:
        return EndpointError(f"no service answers at {self._listen}: {error}")


def _refusal(response: httpx2.Response) -> EndpointError:
    try:
        problem = response.json()
        return EndpointError(f"{problem['title']}: {problem['detail']}")
    except (ValueError, KeyError, TypeError):
        return EndpointError(f"{response.status_code} {response.reason_phrase}")
