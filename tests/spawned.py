"""What a spawned process runs for `test_spawn.py`; nothing of blemish is imported before."""

import os
import sys

POSIX = ("fork", "forkpty", "killpg", "setsid", "sched_getaffinity", "mkfifo", "chown")


def fit_and_score(images: str, out: str) -> dict[str, float]:
    """Fit, load and score; blemish is imported after what POSIX alone has is gone from `os`."""
    assert "blemish" not in sys.modules
    for name in POSIX:
        if hasattr(os, name):
            delattr(os, name)
    import blemish

    blemish.fit(images, out, settings={"backbone": "efficientnet_lite0"})
    scores = blemish.load(out).score(images)
    return dict(zip(scores.ids, map(float, scores.image), strict=True))
