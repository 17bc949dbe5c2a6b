"""What can go wrong in a way a person can fix: one sentence with the value, the rule and the fix."""

from collections.abc import Mapping


class BlemishError(Exception):
    """Base of every error blemish raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class RequestError(BlemishError, ValueError):
    """The request was wrong: a bad argument, folder, file or setting."""

    exit_code = 2


class WeightsError(RequestError):
    """The weights of a backbone are not there, cannot be read, or are not those that are needed."""


class JobError(BlemishError, RuntimeError):
    """The request was right but the job could not be finished: a full disk, too few images left."""


def none_read(count: int, skipped: Mapping[str, str]) -> JobError:
    """The error where none of `count` images could be read; `skipped` has the reason of each."""
    name, reason = next(iter(skipped.items()))
    return JobError(f"None of the {count} images could be read; the first is '{name}': {reason}.")


class NotFittedError(RequestError):
    """A detector cannot score before `fit`."""


class UnreadableImageError(BlemishError):
    """One image cannot be used. The message is the reason, as `skipped.csv` has it."""
