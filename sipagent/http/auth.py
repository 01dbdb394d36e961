"""Who may use the endpoint: whoever knows the token, or whoever may open the Unix socket."""

import hmac
from typing import Final

from fastapi import Request
from fastapi.security import HTTPBearer

from sipagent.http.problems import Problem

CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="sipagent"'}


class RequireToken(HTTPBearer):
    """A dependency that lets a request pass when it carries the token; `token` "" lets every request pass."""

    def __init__(self, token: str) -> None:
        super().__init__(auto_error=False, description="the `token` of `[http]`")
        self._token = token.encode()

    async def __call__(self, request: Request) -> None:  # type: ignore[override]  # nothing needs the credentials
        """Raise a 401 problem unless the token is right."""
        if not self._token:
            return
        credentials = await super().__call__(request)
        if credentials is None:
            raise Problem(401, "", "Unauthorized", "send the header Authorization: Bearer <token>", CHALLENGE)
        # Constant time: how long the comparison takes tells nothing of the token.
        if not hmac.compare_digest(credentials.credentials.encode(), self._token):
            raise Problem(401, "", "Unauthorized", "the token is not the one of this service", CHALLENGE)
