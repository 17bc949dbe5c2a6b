"""Who may talk to the page: whoever has the link, from this machine, through this page."""

import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

# Everything comes from this server; nothing inline runs, nothing is sent elsewhere, nobody frames the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
MOST_BYTES = 100_000  # of a request
Next = Callable[[Request], Awaitable[Response]]


class Guard:
    """A middleware: the token in a link or a cookie, the host's own name, and no request from another page."""

    def __init__(self, token: str, hosts: frozenset[str], cookie: str) -> None:
        self.token, self.hosts, self.cookie = token, hosts, cookie

    async def __call__(self, request: Request, call_next: Next) -> Response:
        """Answer 403 to what may not pass."""
        refused = self._refused(request.headers)
        if refused:
            return _protected(PlainTextResponse(refused, 403))
        given = request.query_params.get("token")
        if given is not None:
            if not self._right(given):
                return _protected(PlainTextResponse(WRONG, 403))
            # The token leaves the address, so that it stands in no history and on no screenshot.
            answer: Response = RedirectResponse(request.url.path, 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
            return _protected(answer)
        if not self._right(request.cookies.get(self.cookie, "")):
            return _protected(PlainTextResponse(WRONG, 403))
        if int(request.headers.get("content-length") or 0) > MOST_BYTES:
            return _protected(PlainTextResponse("The request is too large.", 413))
        return _protected(await call_next(request))

    def _right(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())

    def _refused(self, headers: Headers) -> str | None:
        """Why a request may not pass whatever its token: a name that only leads here, or another page's request."""
        if self.hosts and headers.get("host", "").lower() not in self.hosts:
            return "This page answers only under the address it was started with."
        origin = headers.get("origin")
        if origin and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            return "This request comes from another page."
        return None


WRONG = "The token is missing or wrong; open the link that `blemish review` printed when it started."


def _protected(answer: Response) -> Response:
    answer.headers.setdefault("Content-Security-Policy", POLICY)
    answer.headers.setdefault("X-Content-Type-Options", "nosniff")
    answer.headers.setdefault("Referrer-Policy", "no-referrer")
    answer.headers.setdefault("Cache-Control", "no-store")
    return answer
