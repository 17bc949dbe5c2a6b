"""`serve`: detectors over HTTP, images of many clients scored together."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from blemish.deploy.application import STOP_WITHIN, Batching, create_app
from blemish.deploy.current import CurrentRun
from blemish.deploy.uploads import Limits
from blemish.machine.errors import RequestError
from blemish.machine.web import listening, server_of

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
    server = server_of(
        app,
        "serve",
        host=host,
        port=port,
        timeout_graceful_shutdown=STOP_WITHIN,
        timeout_keep_alive=int(limits.seconds),
        h11_max_incomplete_event_size=2**16,
    )
    with listening(host, port) as taken, suppress(KeyboardInterrupt):  # uvicorn raises it again once all is answered
        tell(f"http://{host}:{taken.getsockname()[1]}")
        server.run(sockets=[taken])


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
