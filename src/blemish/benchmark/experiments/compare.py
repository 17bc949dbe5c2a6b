"""`blemish bench compare`: detectors of one's choice on images of one's own, at any contamination."""

from collections.abc import Sequence
from pathlib import Path

from blemish.benchmark.cells import Cell, Limit
from blemish.benchmark.contamination import POLICIES, TEST_SHARE
from blemish.benchmark.datasets import Category
from blemish.benchmark.experiments.experiment import Experiment, Planned, Size, defective
from blemish.benchmark.experiments.fun_ad import per_cent
from blemish.benchmark.manifest import covers, names_category
from blemish.detectors import detector_class
from blemish.machine.errors import RequestError

NAME = "compare"
DETECTORS, RATIOS = ("nearest_images", "funad"), (0.1,)


def compare(
    detectors: Sequence[str] = DETECTORS,
    ratios: Sequence[float] = RATIOS,
    seeds: int = 1,
    policy: str = POLICIES[0],
    test_share: float = TEST_SHARE,
    manifest: Path | None = None,
) -> Experiment:
    """The experiment that compares `detectors` at each of `ratios`, or on the training images of `manifest`.

    A manifest decides which of the categories take part: those that it has rows of. Raises `RequestError` for an
    unknown detector or a wrong number.
    """
    for name in detectors:
        detector_class(name)
    if seeds < 1:
        raise RequestError(f"`seeds` must be at least 1; got {seeds}.")
    if bad := [ratio for ratio in ratios if not 0 <= ratio < float("inf")]:
        raise RequestError(f"`contamination` takes ratios of 0 or more, such as 0,0.1; got {bad[0]:g}.")

    def plan(categories: Sequence[Category], size: Size) -> list[Planned]:
        if manifest is not None and categories:
            categories = [each for each in categories if covers(manifest, each)] or categories[:1]
            if len(categories) > 1 and not names_category(manifest, categories[0]):
                raise RequestError(
                    f"'{manifest}' does not say of which category its images are, and its paths fit "
                    f"{' and '.join(map(str, categories[:3]))}; name one with `categories`."
                )
        limit = size.limit if manifest is None else Limit()
        given = str(manifest.expanduser().resolve()) if manifest is not None else ""
        return [
            Planned(
                Cell(
                    category=str(category), detector=name, preset=size.preset, ratio=ratio,
                    seed=seed, limit=limit, policy=policy, test_share=test_share, given=given,
                ),
                name,
                per_cent(ratio) if len(ratios) > 1 else "",
            )
            for category in defective(categories, size.categories if manifest is None else None)
            for ratio in ratios
            for name in detectors
            for seed in range(seeds)
        ]  # fmt: skip

    return Experiment(NAME, f"{', '.join(detectors)} on your images", plan, group="ratio", own_sizes=True)
