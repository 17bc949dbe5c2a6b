"""Dynamic batching: images of many callers scored together, each answer to the one who asked."""

import asyncio
import contextvars
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Band
from blemish.deploy.current import CurrentRun
from blemish.deploy.uploads import BusyError
from blemish.images import ImageSet
from blemish.images.decoding import Pixels
from blemish.machine.runtime import use_runtime
from blemish.runs.run import Run

LOOK_AGAIN = 0.001  # seconds, while a batch is being filled


@dataclass(frozen=True)
class Answer:
    """What there is to say of one image; `run`, the one that scored it, says what follows from that.

    `chance` is the chance of being bad, 0..1; None where the Run has no numbers for it.
    """

    run: Run
    score: float
    band: Band
    chance: float | None
    version: str
    map: NDArray[np.float32]
    box: tuple[float, float, float, float]


@dataclass
class _Waiting:
    pixels: Pixels
    content: str
    lost: bytes | None
    answer: "asyncio.Future[Answer]" = field(repr=False)


class Batcher:
    """Scores images for any number of callers, up to `most` at a time, with one Run for a whole batch.

    A batch begins as soon as the one before is done and anything waits, or `wait` seconds after the first image: at
    low load an image hardly waits, at high load batches are full. At most `room` images wait; beyond, `BusyError`.
    """

    def __init__(
        self,
        current: CurrentRun,
        *,
        threads: int,
        most: int,
        room: int,
        wait: float,
        seen: Callable[[int, float], None],
    ) -> None:
        self.current, self.threads, self.seen = current, threads, seen
        self.most, self.room, self.wait = most, room, wait
        self.waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self.depth = 0  # images that were let in and have no answer yet
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="blemish-batch")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, within the event loop that asks."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End once everything that was let in is answered."""
        while self.depth:
            await asyncio.sleep(0.01)
        if self._task:
            self._task.cancel()
        self._worker.shutdown(wait=True)

    async def score(self, images: Sequence[tuple[Pixels, str, bytes | None]]) -> list[Answer]:
        """Answers in the order of the images, each with the SHA-256 of its file and where nothing was measured in it.

        Raises `BusyError`.
        """
        if self.depth and self.depth + len(images) > self.room:
            raise BusyError
        loop = asyncio.get_running_loop()
        mine = [_Waiting(pixels, content, lost, loop.create_future()) for pixels, content, lost in images]
        self.depth += len(mine)
        for each in mine:
            each.answer.add_done_callback(self._answered)
            self.waiting.put_nowait(each)
        try:
            return list(await asyncio.gather(*(each.answer for each in mine)))
        finally:
            for each in mine:
                each.answer.cancel()  # of a caller who gave up: not scored if it has not begun

    def _answered(self, answer: "asyncio.Future[Answer]") -> None:
        self.depth -= 1
        if not answer.cancelled():
            answer.exception()  # told to the caller; a second one of the same request concerns nobody

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next_batch()
            if not batch:
                continue
            run, version = self.current.now()
            start = time.perf_counter()
            context = contextvars.copy_context()
            answers = await loop.run_in_executor(
                self._worker, context.run, _each_scored, run, version, batch, self.threads
            )
            self.seen(len(batch), time.perf_counter() - start)
            for each, answer in zip(batch, answers, strict=True):
                if each.answer.done():  # its caller gave up
                    continue
                if isinstance(answer, Answer):
                    each.answer.set_result(answer)
                else:
                    each.answer.set_exception(answer)

    async def _next_batch(self) -> list[_Waiting]:
        batch = [await self.waiting.get()]
        until = time.perf_counter() + self.wait
        while len(batch) < self.most:
            with suppress(asyncio.QueueEmpty):
                batch.append(self.waiting.get_nowait())
                continue
            if time.perf_counter() >= until:
                break
            await asyncio.sleep(LOOK_AGAIN)  # a wait for the queue that is cut short could lose what it holds
        return [each for each in batch if not each.answer.done()]


def _each_scored(run: Run, version: str, batch: Sequence[_Waiting], threads: int) -> Sequence[Answer | Exception]:
    """An answer to each; what is wrong with one image does not become the answer to another."""
    try:
        return _scored(run, version, batch, threads)
    except Exception as error:  # whatever a detector raises is the answer; the server goes on
        if len(batch) == 1:
            return [error]
        return [answer for each in batch for answer in _each_scored(run, version, [each], threads)]


def _scored(run: Run, version: str, batch: Sequence[_Waiting], threads: int) -> list[Answer]:
    with use_runtime(threads=threads):
        images = ImageSet.of([each.pixels for each in batch])
        lost = {name: each.lost for name, each in zip(images.ids, batch, strict=True) if each.lost is not None}
        scores = run.score(replace(images, lost=lost), progress=False)
    answers = []
    for number, each in enumerate(batch):
        row = scores.index(f"image-{number:06d}")
        # As a file of the fit has: it may not vouch for itself, see `Run.scored`.
        score = run.known.get(each.content, float(scores.image[row]))
        left, top, right, bottom = map(float, scores.boxes[row])
        box = (left, top, right, bottom)
        (band,) = run.decision.bands(np.array([score]))
        chances = run.decision.chances(np.array([score]))
        chance = None if chances is None else round(float(chances[0]), 4)
        answers.append(Answer(run, score, band, chance, version, scores.maps[row].copy(), box))
    return answers
