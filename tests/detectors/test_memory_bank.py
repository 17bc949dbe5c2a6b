"""What the banks of the second round hold: a cover of what the first found ordinary."""

import numpy as np
import pytest
import torch

from blemish.detectors.memory_bank import BankEnsemble, MemoryBank
from blemish.detectors.nearest import smallest
from blemish.features.backbones import GIVEN
from blemish.images import ImageSet
from blemish.runtime import use_runtime

FAR = 20.0  # from the middle; of ordinary patches few are beyond 5


@pytest.fixture(autouse=True)
def one_thread(own_cache):
    with use_runtime(cache=own_cache, threads=1):
        yield


def pile() -> ImageSet:
    """60 images of 36 patches about 0; the last one of every second is far away, each in a direction of its own.

    They are so many that no image stands out for it.
    """
    rng = np.random.default_rng(0)
    found = rng.normal(size=(60, 36, 8))
    away = rng.normal(size=(30, 8))
    found[::2, -1] = FAR * away / np.linalg.norm(away, axis=1, keepdims=True)
    return ImageSet.of_features(found.astype(np.float32))


def held(*, cover: bool) -> list[torch.Tensor]:
    """The entries of each bank that new images meet, as they were in the features, each (M, 8)."""
    detector = MemoryBank(backbone=GIVEN, entries=120, cover=cover).fit(pile())
    ensemble = detector.head_.scorers[0]
    assert isinstance(ensemble, BankEnsemble)
    return [bank.entries * bank.embedding.deviation + bank.embedding.mean for bank in ensemble.banks]


def spacing(entries: torch.Tensor) -> float:
    """The mean distance of an entry to the nearest other."""
    return float((torch.cdist(entries, entries) + torch.eye(len(entries)) * 1e9).amin(1).mean())


@pytest.mark.parametrize(("columns", "count"), [(3, 3), (60, 3), (403, 1), (403, 3), (1000, 9)])
def test_the_smallest_are_those_of_a_full_sort(columns: int, count: int) -> None:
    rows = torch.randn(50, columns, generator=torch.Generator().manual_seed(columns + count))
    rows[0, 2:] = torch.inf  # fewer than asked for are open to the first
    rows[1] = rows[1].sort().values  # the least side by side
    found, expected = smallest(rows, count), rows.sort(dim=1)
    assert torch.equal(found.values, expected.values[:, :count])
    assert torch.equal(rows.gather(1, found.indices), found.values)
    assert all(len(set(each)) == count for each in found.indices.tolist())


def test_a_cover_spreads_over_what_is_ordinary_and_leaves_out_the_farthest() -> None:
    covers, random = held(cover=True), held(cover=False)
    assert [len(each) for each in covers] == [len(each) for each in random] == [120] * 3
    assert max(float(each.norm(dim=1).max()) for each in random) > FAR / 2  # so the pile has some to take
    assert max(float(each.norm(dim=1).max()) for each in covers) < FAR / 2
    ordinary = [each[each.norm(dim=1) < FAR / 2] for each in random]
    assert min(map(spacing, covers)) > 1.1 * max(map(spacing, ordinary))


def test_without_a_first_round_entries_are_random() -> None:
    alone = [MemoryBank(backbone=GIVEN, entries=120, purify=False, cover=cover).fit(pile()) for cover in (True, False)]
    first, second = (each.state() for each in alone)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=0)
