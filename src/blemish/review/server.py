"""Starting the page: an address on this machine, a token in the link."""

import asyncio
import secrets
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from blemish.machine.extras import needed
from blemish.machine.web import listening, server_of
from blemish.review.gallery import Gallery

LOOPBACK = "127.0.0.1"


def review(
    run: str | Path,
    images: str | Path | None = None,
    *,
    beside: str | Path | None = None,
    host: str = LOOPBACK,
    port: int = 0,
    follow_links: bool = False,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve the review of a Run until Ctrl-C. Raises `RequestError`, also if the port is taken.

    Parameters
    ----------
    images : where the images are now, if they moved.
    beside : the folder of another Run of the same images, to compare with: each image has both heatmaps, scores and
        ranks.
    host : an address of this machine; only one that others cannot reach unless asked.
    port : 0 for any that is free.
    follow_links : whether links in the image folder may lead out of it.
    tell : is handed the link.
    """
    page = needed("blemish.review.app", "review", "the review")
    gallery = Gallery.open(Path(run), Path(images) if images else None, follow_links=follow_links)
    with listening(host, port) as taken:
        address, token = taken.getsockname(), secrets.token_urlsafe(24)
        number = int(address[1])
        # Behind 0.0.0.0 the page has names that are not known here; the token alone has to do.
        names = ("127.0.0.1", "localhost", "[::1]") if is_loopback(host) else ()
        guard = page.Guard(token, frozenset(f"{name}:{number}" for name in names), f"blemish-{number}")
        shown = "127.0.0.1" if host in ("0.0.0.0", "localhost") else host  # noqa: S104 - compared, not bound
        link = f"http://{f'[{shown}]' if ':' in shown else shown}:{number}/?token={token}"
        app = page.application(
            gallery, guard, beside=Path(beside).expanduser() if beside else None, ready=lambda: tell(link),
            stopping=lambda: server.should_exit,
        )  # fmt: skip
        # The link is in no log: whoever reads one could label images.
        server: Any = server_of(app, "review", access_log=False)
        _run(server, taken)


def _run(server: Any, taken: socket.socket) -> None:
    """Serve until the server is told to end; beside the loop of a notebook, which no other may join in its thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        server.run(sockets=[taken])
        return
    beside = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, name="blemish-review")
    beside.start()
    try:
        beside.join()
    except KeyboardInterrupt:
        server.should_exit = True
        beside.join()
        raise


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
