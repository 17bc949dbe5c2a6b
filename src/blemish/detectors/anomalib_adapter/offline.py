"""A block of code that may not use the network: libraries that would download behind one's back say so instead."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any
from unittest import mock

_forbidden: ContextVar[bool] = ContextVar("blemish_no_network", default=False)


class NetworkRefusedError(RuntimeError):
    """Something reached for `wanted`, an address, where the network is forbidden.

    No OSError: libraries catch those and try again elsewhere.
    """

    def __init__(self, wanted: str) -> None:
        super().__init__(f"'{wanted}' needs the network, which is forbidden here")
        self.wanted = wanted


@contextmanager
def no_network() -> Iterator[None]:
    """Let this thread reach no other machine inside the block. Raises `NetworkRefusedError` where it tries to.

    The hub's client is put offline as well, since it asks from threads of its own; it then reads its cache only.
    """
    from huggingface_hub import constants

    _install()
    token = _forbidden.set(True)
    try:
        with mock.patch.object(constants, "HF_HUB_OFFLINE", True):
            yield
    finally:
        _forbidden.reset(token)


@cache
def _install() -> None:
    sys.addaudithook(_heard)  # hooks cannot be taken away again; outside of the block this one lets all pass


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("urllib.Request", "socket.getaddrinfo", "socket.connect") or not _forbidden.get():
        return
    wanted = arguments[1] if event == "socket.connect" else arguments[0]
    if isinstance(wanted, tuple):  # (host, port, ...); a path is a socket of this machine
        wanted = wanted[0]
    elif event == "socket.connect":
        return
    raise NetworkRefusedError(str(wanted))
