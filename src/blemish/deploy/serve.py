"""`serve`: detectors over HTTP, images of many clients scored together."""

import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import uvicorn

from blemish.deploy.application import STOP_WITHIN, Batching, create_app
from blemish.deploy.current import CurrentRun
from blemish.deploy.uploads import Limits
from blemish.machine.errors import RequestError

KEY_VARIABLE = "BLEMISH_API_KEY"


def serve(
    runs: Mapping[str, CurrentRun],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    batching: Batching | None = None,
    threads: int | None = None,
    api_key: str | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve until told to end; what was let in by then is answered.

    `tell` is called with the address once it is listened at; port 0 takes a free one. Raises `RequestError`.
    """
    limits = limits or Limits()
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a line for each form that a stranger damaged
    app = create_app(runs, limits=limits, batching=batching, threads=threads, api_key=api_key)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=STOP_WITHIN,
        timeout_keep_alive=int(limits.seconds),
        h11_max_incomplete_event_size=2**16,
        server_header=False,
    )
    server = uvicorn.Server(config)
    # A second Ctrl-C cuts short what the first one began to end, which uvicorn would report with a stack trace.
    logging.getLogger("uvicorn.error").addFilter(lambda _: not server.force_exit)
    listening = _listening(host, port)
    tell(f"http://{host}:{listening.getsockname()[1]}")
    with listening, suppress(KeyboardInterrupt):  # uvicorn raises the signal again once all is answered
        server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # asyncio sets it only where the protocol is named; without it an answer may wait 40 ms for TCP's confirmation.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, OverflowError) as error:
        raise RequestError(
            f"Cannot listen on port {port} of '{host}' ({error}); give another with `port` or `host`."
        ) from None


def serve_key(file: Path | None) -> str | None:
    """The key that clients must send: what `file` holds, else the variable `KEY_VARIABLE`. Raises `RequestError`."""
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        key = file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise RequestError(f"The key file '{file}' cannot be read ({error}); give a text file.") from None
    if not key:
        raise RequestError(f"The key file '{file}' is empty; write a key into it.")
    return key
