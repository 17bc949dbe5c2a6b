"""Published weights: in the caches of this machine, or one file fetched from the hub, with a short time limit."""

import threading
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from blemish.features.backbones import Backbone
from blemish.machine.errors import JobError, WeightsError
from blemish.machine.runtime import quiet, runtime

ANSWER_SECONDS = 2.0  # within which the hub answers, or counts as out of reach; its own client tries for 46 s
OLDER_FILE = "pytorch_model.bin"  # what the hub holds of models saved before safetensors
OK, NOT_FOUND = 200, 404


def cached(entry: Backbone) -> Path | None:
    """The weights in a local cache: that of the hub, or that of torch.hub under their original name."""
    from huggingface_hub import try_to_load_from_cache

    for name in (entry.hub_file, OLDER_FILE) if entry.hub_id else ():
        found = try_to_load_from_cache(entry.hub_id, name)
        if isinstance(found, str):
            return Path(found)
    original = checkpoints() / Path(urlparse(entry.original).path).name
    return original if entry.original and original.is_file() else None


def checkpoints() -> Path:
    """The folder in which torch.hub keeps what it downloads, and in which a person may put a file."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch(name: str, entry: Backbone) -> Path:
    """Download the weights of `entry` into the hub's cache. Raises `WeightsError` at once if that cannot be."""
    from huggingface_hub import constants, hf_hub_download, hf_hub_url
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars  # type: ignore[attr-defined]

    if not entry.hub_id:
        raise not_here(name, entry, "nobody publishes them on the hub")
    if constants.HF_HUB_OFFLINE:
        raise not_here(name, entry, "HF_HUB_OFFLINE forbids asking the hub")
    for file in (entry.hub_file, OLDER_FILE):
        answer = http_status(hf_hub_url(entry.hub_id, file, endpoint=constants.ENDPOINT), ANSWER_SECONDS)
        if answer == OK:
            break
        if answer != NOT_FOUND:
            status = f"answers with {answer}" if isinstance(answer, int) else f"cannot be reached ({answer})"
            raise not_here(name, entry, f"{constants.ENDPOINT} {status}")
    else:
        raise not_here(name, entry, f"{constants.ENDPOINT} does not have them")
    (disable_progress_bars if runtime().progress is quiet else enable_progress_bars)()
    try:
        return Path(hf_hub_download(entry.hub_id, file, endpoint=constants.ENDPOINT))
    except Exception as error:  # errors of the client and of its network library
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise JobError(
            f"The download of the weights of '{name}' broke off ({reason}); run again, or fetch "
            f"{hf_hub_url(entry.hub_id, file)} and give that file with `weights`."
        ) from error


def not_here(name: str, entry: Backbone, why: str) -> WeightsError:
    """The one error for weights that are neither on this machine nor to be had: which file to fetch, from where."""
    from huggingface_hub import constants, hf_hub_url

    places = [hf_hub_url(entry.hub_id, entry.hub_file)] if entry.hub_id else []
    places += [entry.original] if entry.original else []
    if not places:
        return WeightsError(f"No weights are published for '{name}'; give a file of yours with `weights`.")
    return WeightsError(
        f"The weights of '{name}' are not on this machine and {why}; fetch {' or '.join(places)} elsewhere and name "
        f"the file with `weights` (looked in {constants.HF_HUB_CACHE} and {checkpoints()})."
    )


def http_status(address: str, seconds: float) -> int | str:
    """The HTTP status of `address`, or why there is none.

    The request runs in a thread that is left behind: looking up a name knows no time limit.
    """
    answer: list[int | str] = [f"no answer within {seconds:g} s"]
    request = threading.Thread(target=lambda: answer.append(_status(address, seconds)), daemon=True)
    request.start()
    request.join(seconds)
    return answer[-1]


def _status(address: str, seconds: float) -> int | str:
    try:
        with urlopen(Request(address, method="HEAD"), timeout=seconds) as answer:  # noqa: S310
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except (URLError, OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
