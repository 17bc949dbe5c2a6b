"""What the two web servers share, that of the review page and that of `serve`: an address, and how they end."""

import logging
import socket
from typing import Any

from blemish.machine.errors import RequestError
from blemish.machine.extras import needed


def listening(host: str, port: int) -> socket.socket:
    """A socket that is listened at; port 0 takes a free one. Raises `RequestError` if there cannot be one."""
    try:
        taken = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # asyncio sets it only where the protocol is named; without it an answer may wait 40 ms for TCP's confirmation.
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, OverflowError) as error:
        raise RequestError(
            f"Cannot listen on port {port} of '{host}' ({error}); give another with `port` or `host`."
        ) from None
    return taken


def server_of(app: Any, extra: str, **settings: Any) -> Any:
    """A server of uvicorn, which the `extra` brings, for an application; it says no more than what is wrong."""
    uvicorn = needed("uvicorn", extra, "the server")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, **settings))
    # A second Ctrl-C cuts short what the first one began to end, which uvicorn would report with a stack trace.
    logging.getLogger("uvicorn.error").addFilter(lambda _: not server.force_exit)
    return server
