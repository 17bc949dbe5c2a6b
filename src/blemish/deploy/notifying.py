"""Messages of scored images to whoever should know, from other threads: the line never waits for them."""

import hashlib
import threading
import time
from collections.abc import Container, Sequence
from pathlib import Path

from blemish.deploy.receivers import DeliveryError, Receiver, RefusedMessageError, receiver_of
from blemish.deploy.watch_records import Key, Message, Spool, waiting_in

SPOOL = "spool"  # in the folder of the results
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds before a message is tried again
EVENTS = ("bad", "each")


class Notifier:
    """The receivers of `on_bad`, flagged images, and `on_each`, all images; both None or a receiver as it was typed.

    `news` are sentences for a person; the caller removes those it has shown. Raises `RequestError` for
    what is no receiver.
    """

    def __init__(self, out: Path, on_bad: str | None = None, on_each: str | None = None) -> None:
        self.news: list[str] = []
        self._deliveries: dict[str, _Delivery] = {}
        typed = dict(zip(EVENTS, (on_bad, on_each), strict=True))
        receivers = {event: receiver_of(text, f"on_{event}") for event, text in typed.items() if text is not None}
        for event in EVENTS:
            folder = out / SPOOL / event
            if event in receivers:
                self._deliveries[event] = _Delivery(Spool(folder), receivers[event], self.news)
            elif count := waiting_in(folder):
                self.news.append(f"{_messages(count)} in '{folder}'; give a receiver with `on_{event}` to send them.")

    def start(self, noted: Container[Key]) -> None:
        """Begin with the messages of an earlier start; `noted` are the images that have a row."""
        for each in self._deliveries.values():
            each.spool.forget(noted)
            each.start()

    def prepare(self, messages: Sequence[Message]) -> None:
        """Write the messages of images whose rows are about to be written. Raises `JobError` for a full disk."""
        for event, each in self._deliveries.items():
            about = [message for message in messages if event == "each" or message["flagged"]]
            each.spool.prepare([{"id": _identity(event, message), "event": event, **message} for message in about])

    def release(self, noted: Container[Key]) -> None:
        """Have the messages delivered whose rows are on the disk."""
        for each in self._deliveries.values():
            each.spool.release(noted)
            each.wake.set()

    @property
    def waiting(self) -> int:
        """Messages that are not delivered yet."""
        return sum(len(each.spool.due) for each in self._deliveries.values())

    def close(self, patience: float = 0.0) -> str:
        """End, after up to `patience` seconds for what waits; a sentence of what still does, or nothing."""
        until = time.monotonic() + patience
        while self.waiting and time.monotonic() < until:
            time.sleep(0.02)
        for each in self._deliveries.values():
            each.stop()
        if not (left := self.waiting):
            return ""
        [folder] = {each.spool.folder.parent for each in self._deliveries.values()}
        return f"{_messages(left)} in '{folder}' and will be sent at the next start."


class _Delivery:
    """The thread that delivers the messages of one spool, in their order."""

    def __init__(self, spool: Spool, receiver: Receiver, news: list[str]) -> None:
        self.spool, self.receiver, self.news = spool, receiver, news
        self.wake, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="blemish-notify", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self.wake.set()
        if self._thread.is_alive():
            self._thread.join(0.5)  # one that hangs is a daemon, and its message stays on the disk

    def _run(self) -> None:
        problem, wait, tries = "", FIRST_WAIT, 0
        while not self._ended.is_set():
            if not self.spool.due:
                self.wake.wait()
                self.wake.clear()
                continue
            name = self.spool.due[0]
            try:
                reason = self._tried(name)
            except OSError as error:  # of the disk
                reason = f"cannot be told of what is on the disk ({error})"
            if not reason:
                if problem:
                    self.news.append(f"{self.receiver.name} takes messages again.")
                problem, wait, tries = "", FIRST_WAIT, 0
                continue
            tries += 1
            if self.receiver.tries is not None and tries >= self.receiver.tries:
                self._refused(name, f"{reason} for the {tries}th time")
                problem, wait, tries = "", FIRST_WAIT, 0
                continue
            if reason != problem:
                self.news.append(
                    f"{self.receiver.name} {reason}; its messages wait in '{self.spool.folder}' and are tried again."
                )
            problem = reason
            self._ended.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        self.receiver.close()

    def _tried(self, name: str) -> str:
        """Deliver one message; why that failed, or nothing."""
        try:
            message = self.spool.read(name)
        except ValueError as error:
            self._refused(name, f"gets no message that is damaged ({error})")
            return ""
        try:
            self.receiver.send(message)
        except RefusedMessageError as error:
            self._refused(name, str(error))
        except DeliveryError as error:
            return str(error)
        else:
            self.spool.delivered(name)
        return ""

    def _refused(self, name: str, reason: str) -> None:
        place = self.spool.refuse(name)
        self.news.append(f"{self.receiver.name} {reason}; the message was set aside as '{place}'.")


def _identity(event: str, message: Message) -> str:
    """The same for the same image however often it is scored, so that a receiver can tell what it has already."""
    parts = (event, message["folder"], message["path"], message["size"], message["modified_ns"])
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _messages(count: int) -> str:
    return "1 message waits" if count == 1 else f"{count} messages wait"
