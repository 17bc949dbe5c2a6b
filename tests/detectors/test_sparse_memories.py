"""The mean over all sparse memories, against memories that are drawn, and what a student makes of it."""

import pytest
import torch

from blemish.detectors.embedding import Standardised
from blemish.detectors.sparse_memories import SparseMemories, mean_weights
from blemish.detectors.student import Schedule, Student, normal_looking, taught

IMAGES, EACH = 30, 8


def sample() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(IMAGES * EACH, 5, generator=random), torch.arange(IMAGES).repeat_interleave(EACH)


def memories(share: float = 0.2) -> tuple[SparseMemories, torch.Tensor]:
    return SparseMemories.of(Standardised(5), *sample(), IMAGES * EACH, share, seed=0)


def test_the_mean_is_that_of_memories_drawn_at_random() -> None:
    queries = 1.5 * torch.randn(40, 5, generator=torch.Generator().manual_seed(5))
    embedded, groups = sample()
    nearest = torch.stack([torch.cdist(queries, embedded[groups == image]).amin(1) for image in range(IMAGES)], dim=1)
    random = torch.Generator().manual_seed(1)
    drawn = torch.stack([nearest[:, torch.randperm(IMAGES, generator=random)[:6]].amin(1) for _ in range(1500)])
    found, _ = memories(0.2)
    torch.testing.assert_close(found.means(queries, found.weights), drawn.mean(0), rtol=0.02, atol=0.02)


def test_an_image_left_out_counts_as_if_it_had_never_been_there() -> None:
    embedded, groups = sample()
    rest = groups != 3
    found, known = memories(0.2)
    without, _ = SparseMemories.of(Standardised(5), embedded[rest], groups[rest], (IMAGES - 1) * EACH, 6 / 29, seed=0)
    left_out = found.left_out(embedded, groups, known, 0.2)[~rest]
    torch.testing.assert_close(left_out, without.means(embedded[~rest], without.weights), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("images", "held"), [(1, 1), (8, 1), (8, 8), (200, 20), (5000, 500)])
def test_weights_are_shares(images: int, held: int) -> None:
    weights = mean_weights(images, held)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    assert (weights > 0).all()
    assert len(weights) <= images - held + 1


def test_more_images_than_entries_are_sampled_and_few_patches_are_repeated() -> None:
    embedded, groups = sample()
    few, known = SparseMemories.of(Standardised(5), embedded, groups, 10, 0.1, seed=0)
    assert few.entries.shape == (10, 1, 5)
    assert len(known) == 10
    padded, _ = SparseMemories.of(Standardised(5), embedded[:30], groups[:30], 400, 0.1, seed=0)
    assert padded.entries.shape[:2] == (4, 100)


def test_a_student_scores_a_rare_pattern_higher_than_it_was_taught() -> None:
    """Twenty images on a plane, one of them with patches off it, taught that all patches are alike."""
    random = torch.Generator().manual_seed(0)
    directions = torch.randn(3, 12, generator=random)
    patches = torch.randn(2000, 3, generator=random) @ directions
    owners = torch.arange(20).repeat_interleave(100)
    odd = torch.zeros(2000, dtype=torch.bool)
    odd[:10] = True
    patches[odd] += 4 * torch.randn(12, generator=random)
    torch.manual_seed(0)
    student = Student(Standardised(12), 12, width=32, bottleneck=3)
    schedule = Schedule(steps=100, batch=64, rate=5e-3, rounds=2, cut=3.0)
    told: list[tuple[int, int]] = []
    taught(student, patches, torch.ones(2000), owners, schedule, 0, lambda *at: told.append(at))
    with torch.no_grad():
        errors = student.errors(patches)
    assert errors[odd].min() > 3 * errors[~odd].median()
    assert told[-1] == (200, 200)
    assert 0 not in owners[normal_looking(student, patches, owners, cut=3.0)]
