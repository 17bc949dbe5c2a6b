"""Who gets a message on an image: a command, a webhook or an MQTT broker, each with `send`."""

import base64
import json
import re
import shlex
import shutil
import subprocess
import threading
import urllib.request
from abc import ABC, abstractmethod
from http.client import HTTPException
from typing import Any, NoReturn
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from blemish.deploy.watch_records import Message
from blemish.machine.errors import RequestError
from blemish.machine.extras import needed

ANSWER_WITHIN = 10.0  # seconds for a server or a broker
RUN_WITHIN = 60.0  # seconds for a command
ABOUT_THE_MESSAGE = (400, 413, 415, 422)  # another try with the same message would be answered alike
PLACEHOLDERS = ("path", "score", "band", "id")


class DeliveryError(Exception):
    """A message was not delivered; another try may succeed."""


class RefusedMessageError(DeliveryError):
    """The receiver does not take this message; another one it may take."""


class Receiver(ABC):
    """What takes messages. `name` is for sentences, without any password; `tries` of a message, None for no end."""

    name: str
    tries: int | None = None

    @abstractmethod
    def send(self, message: Message) -> None:
        """Deliver a message. Raises `DeliveryError`."""

    def close(self) -> None:  # noqa: B027 - not every receiver keeps a connection
        """Close connections."""


def receiver_of(text: str, flag: str) -> Receiver:
    """A receiver from what a person typed for the option `flag`. Raises `RequestError`."""
    scheme = text.partition("://")[0].lower() if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) else ""
    if scheme in ("http", "https"):
        return Webhook(text, flag)
    if scheme in ("mqtt", "mqtts"):
        return Broker(text, flag)
    if scheme:
        raise RequestError(f"`{flag}` takes a command, http://, https:// or mqtt://; got '{scheme}://'.")
    return Command(text, flag)


class Command(Receiver):
    """A program with its arguments, run without a shell; {path}, {score}, {band} and {id} are filled in."""

    tries = 5

    def __init__(self, text: str, flag: str) -> None:
        try:
            self.words = shlex.split(text)
        except ValueError as error:
            raise RequestError(f"`{flag}` '{text}' cannot be split into words ({error}); fix its quotes.") from None
        if not self.words or shutil.which(self.words[0]) is None:
            program = self.words[0] if self.words else text
            raise RequestError(f"The program '{program}' of `{flag}` was not found; give its full path.")
        self.name = f"'{self.words[0]}'"

    def send(self, message: Message) -> None:
        """See `Receiver`."""
        values = {"path": message["file"], "id": message["id"], "band": message["band"] or "unreadable"}
        values["score"] = "" if message["score"] is None else f"{message['score']:.9g}"
        pattern = "|".join(f"{{{name}}}" for name in PLACEHOLDERS)
        words = [re.sub(pattern, lambda found: values[found[0][1:-1]], word) for word in self.words]
        try:
            done = subprocess.run(  # noqa: S603 - the person's own command
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=RUN_WITHIN, check=False
            )
        except subprocess.TimeoutExpired:
            raise DeliveryError(f"does not end within {RUN_WITHIN:g} s") from None
        except (OSError, ValueError) as error:
            raise DeliveryError(f"cannot be run ({error})") from None
        if done.returncode:
            raise DeliveryError(f"ends with status {done.returncode}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the message."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Webhook(Receiver):
    """A URL that gets each message as JSON by POST; the header `Idempotency-Key` holds its `id`."""

    def __init__(self, text: str, flag: str) -> None:
        host, port, user, password = _place(text, flag)
        address = f"[{host}]" if ":" in host else host
        address += f":{port}" if port else ""
        parts = urlsplit(text)
        self.url = parts._replace(netloc=address, fragment="").geturl()
        self.name = f"{parts.scheme}://{address}"
        self.headers = {"Content-Type": "application/json", "User-Agent": "blemish"}
        if user:
            self.headers["Authorization"] = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        self._opener = urllib.request.build_opener(_NoRedirect)

    def send(self, message: Message) -> None:
        """See `Receiver`."""
        headers = {**self.headers, "Idempotency-Key": message["id"]}
        request = urllib.request.Request(self.url, json.dumps(message).encode(), headers, method="POST")  # noqa: S310
        try:
            with self._opener.open(request, timeout=ANSWER_WITHIN):
                return
        except HTTPError as error:
            error.close()
            kind = RefusedMessageError if error.code in ABOUT_THE_MESSAGE else DeliveryError
            raise kind(f"answers with status {error.code}") from None
        except TimeoutError:
            raise DeliveryError(f"does not answer within {ANSWER_WITHIN:g} s") from None
        except (OSError, HTTPException, ValueError) as error:
            raise DeliveryError(f"cannot be reached ({getattr(error, 'reason', error)})") from None


class Broker(Receiver):
    """A topic of an MQTT broker, `mqtt://user:password@host:port/topic`, published with quality of service 1."""

    def __init__(self, text: str, flag: str) -> None:
        mqtt = needed("paho.mqtt.client", "mqtt", f"`{flag}`")
        host, port, self._user, self._password = _place(text, flag)
        parts = urlsplit(text)
        self._tls = parts.scheme.lower() == "mqtts"
        self._at = host, port or (8883 if self._tls else 1883)
        self.topic = unquote(text.partition("://")[2].partition("/")[2])  # a fragment, too: # has to be refused
        if not self.topic or set(self.topic) & set("+#\0"):
            raise RequestError(
                f"`{flag}` needs a topic without + and #, as in mqtt://{host}/line/bad; got '{self.topic}'."
            )
        self.name = f"{parts.scheme}://{host}:{self._at[1]}/{self.topic}"
        self._mqtt: Any = mqtt
        self._client: Any = None

    def send(self, message: Message) -> None:
        """See `Receiver`."""
        try:
            if self._client is None or not self._client.is_connected():
                self._connect()
            sent = self._client.publish(self.topic, json.dumps(message), qos=1)
            sent.wait_for_publish(ANSWER_WITHIN)
            if not sent.is_published():
                self._failed(f"does not confirm within {ANSWER_WITHIN:g} s")
        except (OSError, ValueError, RuntimeError) as error:
            self._failed(f"cannot be reached ({error})")

    def _connect(self) -> None:
        self.close()
        connected, reason = threading.Event(), []

        def on_connect(_client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
            if code.is_failure:
                reason.append(str(code))
            connected.set()

        client = self._mqtt.Client(self._mqtt.CallbackAPIVersion.VERSION2)
        client.on_connect = on_connect
        client.connect_timeout = ANSWER_WITHIN
        if self._user:
            client.username_pw_set(self._user, self._password)
        if self._tls:
            client.tls_set()
        client.connect(*self._at)
        self._client = client
        client.loop_start()
        if not connected.wait(ANSWER_WITHIN):
            self._failed(f"does not answer within {ANSWER_WITHIN:g} s")
        if reason:
            self._failed(f"refuses the connection ({reason[0]})")

    def _failed(self, reason: str) -> NoReturn:
        self.close()  # what it holds of the message would be sent beside the next try
        raise DeliveryError(reason) from None

    def close(self) -> None:
        """See `Receiver`."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
        self._client = None


def _place(text: str, flag: str) -> tuple[str, int | None, str, str]:
    """Host, port, user and password of a URL. Raises `RequestError`, without the password."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RequestError(f"`{flag}` is no URL ({error}); write it as scheme://host:port/path.") from None
    if not host:
        raise RequestError(f"`{flag}` has no host; write it as {parts.scheme}://host:port/path.")
    return host, port, unquote(parts.username or ""), unquote(parts.password or "")
