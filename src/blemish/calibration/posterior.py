"""What good and bad images score, estimated from one score per image and no label, as random samples.

Scores are unlabelled, so neither how many images are bad nor what good ones score is known. Both are unknowns of one
model, and the answer is a sample of all settings of it that fit the scores (a posterior). What is wanted is read off
that sample: how likely an image is bad, how many are, how sure that is.

The model. A score is about the k-th highest of many patch distances. The limit law of such a number is that of minus
the logarithm of a Gamma variable of shape k: Gumbel's law for k = 1, nearly Gaussian for a large k. Good images follow
it. Bad images are further out by a factor: their distance from the lowest good scores is log-normal. A few good images
look like bad ones and a few bad ones like good ones, which only labels can tell.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blemish.images import ANOMALOUS, NORMAL, UNKNOWN
from blemish.machine.errors import RequestError

FLOOR = 2.0  # deviations below the middle: where good scores begin, and from where the bad are measured
STANDS_OUT = 4.0  # deviations from that floor: the median bad image is at least 2 deviations above the middle
FARTHEST = 50.0  # deviations; a score beyond adds no information
MOST_BAD = 0.5  # of the images: with more, the bad ones are the ordinary ones
FEWEST_BAD = 0.1  # images; the logarithm of the share begins there, so that "no bad image" stays possible
# Expected before a score is seen, as mean and deviation of the logarithm. Chosen on the development sets
# (benchmarks/threshold.md): good scores have a skewness of 0.5 to 1, bad ones are at 5 to 30 deviations.
SHAPE, DISTANCE, WIDTH = (np.log(3.0), 0.8), (np.log(7.0), 0.6), (np.log(0.4), 0.2)
UNUSUAL_GOOD, PLAIN_BAD = (np.log(0.001), 1.0), (np.log(0.01), 1.0)
MOST_UNUSUAL, MOST_PLAIN = 0.05, 0.5
SCALE = 1.0  # deviation of the logarithm of the good scores' own deviation, around the first guess
PLACE = 3.0  # deviations that the middle of good scores may be from the first guess
WALKERS, WARM_UP, STEPS, EVERY = 48, 200, 200, 4  # of the sampler: 2,400 draws
FAR_BELOW = 15.0  # below the best logarithm: of 8 unknowns, one draw in 2,400 is that far down
KNOTS = 200  # of a curve, twice
BINS, TOP = 120, 60  # the scores are averaged in bins, but for the highest
Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """A number by score: straight lines between knots, constant beyond; it never falls.

    Attributes
    ----------
    scores : (K,) rising.
    values : (K,), none below the one before.

    Examples
    --------
    >>> Curve((0.0, 1.0, 2.0), (0.0, 1.0, 4.0)).of([0.5, 1.5, 9.0]).tolist()
    [0.5, 2.5, 4.0]
    """

    scores: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check what a damaged file could hold."""
        rising = all(list(each) == sorted(each) for each in (self.scores, self.values))
        if len(self.scores) != len(self.values) or not self.scores or not rising:
            raise RequestError(
                f"The knots of a {type(self).__name__.lower()} must be rising scores, each with a value that does not "
                "fall; fit again with `force`."
            )

    def of(self, scores: NDArray[np.floating]) -> Array:
        """Of scores (N,), (N,)."""
        found: Array = np.interp(np.asarray(scores, dtype=np.float64), self.scores, self.values)
        return found


class Stretch(Curve):
    """What scores become before the model sees them."""

    @classmethod
    def between(cls, scores: NDArray[np.floating], others: NDArray[np.floating]) -> "Stretch":
        """What gives scores (N,) the distribution of `others` (M,): the lowest for the lowest, and so on."""
        values, counts = np.unique(np.asarray(scores, dtype=np.float64), return_counts=True)
        places = (np.cumsum(counts) - (counts + 1) / 2) / max(counts.sum() - 1, 1)  # of equal ones, the middle
        knots = thinned(values)
        seen = np.quantile(np.asarray(others, dtype=np.float64), np.interp(knots, values, places))
        further = knots[-1] + np.ptp(knots), seen[-1] + np.ptp(seen)  # beyond the highest it goes on
        return cls((*knots.tolist(), further[0]), (*seen.tolist(), further[1]))


@dataclass(frozen=True)
class TwoGroups:
    """Draws of what good and bad images may be like, given some scores.

    Attributes
    ----------
    draws : (S, 8): middle, log deviation and log shape of good scores; log share of bad images; log distance and log
        width of theirs; log shares of good images that look bad and of bad ones that look good.
    weights : (S,) of the draws, adding up to 1.
    stretch : what scores become before the draws have a say; None leaves them.
    """

    draws: Array
    weights: Array
    stretch: Stretch | None = None

    def each_chance(self, scores: NDArray[np.floating]) -> Array:
        """(S, N) the chance of being bad by each draw, of scores (N,)."""
        from scipy.special import expit

        good, bad = _log_groups(_seen(scores, self.stretch), self.draws)
        chance: Array = expit(bad - good)
        return chance

    def good_beyond(self, scores: NDArray[np.floating]) -> Array:
        """(N,) the expected share of the good images that score higher."""
        from scipy.special import digamma, gammainc, ndtr, polygamma

        middle, deviation, shape, distance, width, unusual = (
            self.draws[:, [column]] for column in (0, 1, 2, 4, 5, 6)
        )  # fmt: skip
        z = (_seen(scores, self.stretch)[None] - middle) / np.exp(deviation)
        k = np.exp(shape)
        plain = gammainc(k, np.exp(-np.clip(z * np.sqrt(polygamma(1, k)) - digamma(k), -700, 700)))
        far = ndtr(-(np.log(np.maximum(z + FLOOR, 1e-9)) - distance) / np.exp(width))
        beyond: Array = self.weights @ ((1 - np.exp(unusual)) * plain + np.exp(unusual) * far)
        return beyond

    def knowing(self, scores: NDArray[np.floating], labels: Labels) -> "TwoGroups":
        """The same draws, weighted by how well they agree with labels (N,) of scores that the sample was made of.

        Quick, for a page that has to answer at once. Where few draws would be left, labels count for less.
        """
        known = np.isin(labels, (NORMAL, ANOMALOUS))
        if not known.any():
            return self
        good, bad = _log_groups(_seen(scores, self.stretch)[known], self.draws)
        fits = np.where(labels[known] == ANOMALOUS, bad, good).sum(1) - np.logaddexp(good, bad).sum(1)
        power = 1.0
        while True:
            weights = self.weights * np.exp(power * (fits - fits.max()))
            weights /= weights.sum()
            if 1 / (weights**2).sum() >= min(50, len(weights) / 4) or power < 0.01:
                return replace(self, weights=weights)
            power *= 0.8


def two_groups(
    scores: NDArray[np.floating],
    labels: Labels | None = None,
    normals: NDArray[np.floating] | None = None,
    stretch: Stretch | None = None,
) -> TwoGroups:
    """Sample what good and bad images may be like.

    Parameters
    ----------
    scores : (N,) of the folder, of which an unknown share is bad; not all equal.
    labels : (N,) `NORMAL` or `ANOMALOUS` where a person reviewed an image. Which ones were may depend on their scores.
    normals : (M,) scores of images known to be good that are not part of the folder.
    stretch : what scores become before the model sees them; nothing else by default.
    """
    values = _seen(scores, stretch)
    known = np.full(len(values), UNKNOWN) if labels is None else labels
    evidence = _Evidence(
        *binned(values[(known != NORMAL) & (known != ANOMALOUS)]),
        values[known == NORMAL],
        values[known == ANOMALOUS],
        np.empty(0) if normals is None else _seen(normals, stretch),
        *_first_guess(values),
        len(values),
    )
    draws = _sampled(evidence)
    return TwoGroups(draws, np.full(len(draws), 1 / len(draws)), stretch)


@dataclass(frozen=True)
class _Evidence:
    """Scores in bins with their counts, those of reviewed and of known good images, a first guess of good scores."""

    unknown: Array
    counts: Array
    good: Array
    bad: Array
    normals: Array
    middle: float
    deviation: float
    images: int

    def log_posterior(self, draws: Array) -> Array:
        """(S,) but for a constant; minus infinity where a draw is out of bounds."""
        found = self._log_prior(draws)
        inside = np.isfinite(found)
        some = draws[inside]
        found[inside] += _log_density(self.unknown, some) @ self.counts
        if len(self.good):
            found[inside] += _log_groups(self.good, some)[0].sum(1)
        if len(self.bad):
            found[inside] += _log_groups(self.bad, some)[1].sum(1)
        if len(self.normals):
            found[inside] += (_log_groups(self.normals, some)[0] - np.log1p(-np.exp(some[:, [3]]))).sum(1)
        return found

    def _log_prior(self, draws: Array) -> Array:
        middle, deviation, shape, share, distance, width, unusual, plain = draws.T
        low = np.log(FEWEST_BAD / self.images)
        inside = (low < share) & (share < np.log(MOST_BAD)) & (distance > np.log(STANDS_OUT))
        inside &= (
            (abs(shape) < 5) & (unusual < np.log(MOST_UNUSUAL)) & (plain < np.log(MOST_PLAIN)) & (width > np.log(0.05))
        )
        inside &= deviation > np.log(self.deviation) - 7
        expected = (
            (shape, SHAPE), (distance, DISTANCE), (width, WIDTH), (unusual, UNUSUAL_GOOD), (plain, PLAIN_BAD),
            (middle, (self.middle, PLACE * self.deviation)), (deviation, (np.log(self.deviation), SCALE)),
        )  # fmt: skip
        return np.where(inside, -sum(((value - mean) / spread) ** 2 for value, (mean, spread) in expected) / 2, -np.inf)

    def starts(self, count: int, rng: np.random.Generator) -> Array:
        """(count, 8) draws from about what is expected."""
        low = np.log(FEWEST_BAD / self.images)
        columns = [
            self.middle - self.deviation * np.abs(rng.normal(0, 0.3, count)),
            np.log(self.deviation) - np.abs(rng.normal(0, 0.4, count)),
            rng.normal(*SHAPE, count),
            rng.uniform(low, np.log(MOST_BAD), count),
            np.maximum(rng.normal(*DISTANCE, count), np.log(STANDS_OUT) + 0.05),
            rng.normal(*WIDTH, count),
            np.minimum(rng.normal(*UNUSUAL_GOOD, count), np.log(MOST_UNUSUAL) - 0.1),
            np.minimum(rng.normal(*PLAIN_BAD, count), np.log(MOST_PLAIN) - 0.1),
        ]
        return np.stack(columns, axis=1)


def _seen(scores: NDArray[np.floating], stretch: Stretch | None) -> Array:
    return stretch.of(scores) if stretch else np.asarray(scores, dtype=np.float64)


def _first_guess(values: Array) -> tuple[float, float]:
    """Middle and deviation by the lower half of the scores, which are good ones for the most part."""
    middle = float(np.median(values))
    deviation = middle - float(np.quantile(values, 0.16))
    return middle, max(deviation, 1e-3 * float(values.std()), 1e-9)


def thinned(values: Array) -> Array:
    """Sorted values (N,); of many all of the highest, and a sample of the rest."""
    if len(values) <= 2 * KNOTS:
        return values
    some = np.round(np.linspace(0, len(values) - KNOTS, KNOTS)).astype(int)
    return np.concatenate([values[some], values[len(values) - KNOTS + 1 :]])


def binned(values: Array) -> tuple[Array, Array]:
    """Scores (N,) as means of bins and how many each holds, the highest ones alone: many images cost no more."""
    ordered = np.sort(values)
    if len(ordered) <= BINS + TOP:
        return ordered, np.ones(len(ordered))
    parts = np.array_split(ordered[:-TOP], BINS)
    means, counts = np.array([part.mean() for part in parts]), np.array([float(len(part)) for part in parts])
    return np.concatenate([means, ordered[-TOP:]]), np.concatenate([counts, np.ones(TOP)])


def _log_parts(values: Array, draws: Array) -> tuple[Array, Array]:
    """(S, N) the log density of such a score among images that look good, and among those that look bad."""
    from scipy.special import digamma, gammaln, polygamma

    middle, deviation, shape, _, distance, width, _, _ = (column[:, None] for column in draws.T)
    z = np.minimum((values[None] - middle) / np.exp(deviation), FARTHEST)
    k = np.exp(shape)
    spread = np.sqrt(polygamma(1, k))
    u = z * spread - digamma(k)  # minus the logarithm of a Gamma variable has this mean and deviation
    ordinary = -k * u - np.exp(np.minimum(-u, 50.0)) - (gammaln(k) - np.log(spread) + deviation)
    away = np.log(np.maximum(z + FLOOR, 1e-9))
    far = -(((away - distance) / np.exp(width)) ** 2) / 2 - away - (width + np.log(2 * np.pi) / 2 + deviation)
    return ordinary, np.where(z > -FLOOR, far, -1e3)


def _log_groups(values: Array, draws: Array) -> tuple[Array, Array]:
    """(S, N) the log density of being good with such a score, and of being bad with it."""
    ordinary, far = _log_parts(values, draws)
    share, unusual, plain = draws[:, [3]], draws[:, [6]], draws[:, [7]]
    good = np.logaddexp(np.log1p(-np.exp(unusual)) + ordinary, unusual + far)
    bad = np.logaddexp(plain + ordinary, np.log1p(-np.exp(plain)) + far)
    return np.log1p(-np.exp(share)) + good, share + bad


def _log_density(values: Array, draws: Array) -> Array:
    """(S, N) the log density of such a score, good or bad."""
    ordinary, far = _log_parts(values, draws)
    share, unusual, plain = (np.exp(draws[:, [column]]) for column in (3, 6, 7))
    looks_bad = (1 - share) * unusual + share * (1 - plain)
    found: Array = np.logaddexp(np.log1p(-looks_bad) + ordinary, np.log(looks_bad) + far)
    return found


def _sampled(evidence: _Evidence) -> Array:
    """Draws by an ensemble of walkers: each steps along the line to another, or by the difference of two others.

    Goodman and Weare 2010; ter Braak 2006. The same scores give the same draws.
    """
    rng = np.random.default_rng(0)
    walkers = evidence.starts(6 * WALKERS, rng)
    fit = evidence.log_posterior(walkers)
    best = rng.permutation(np.argsort(-fit)[:WALKERS])
    walkers, fit = walkers[best], fit[best]
    half, size = WALKERS // 2, walkers.shape[1]
    kept = []
    for step in range(WARM_UP + STEPS):
        for first in (0, half):
            mine, others = slice(first, first + half), walkers[half - first : 2 * half - first]
            if step % 3:
                factor = (rng.random(half) + 1) ** 2 / 2
                moved = others[rng.integers(0, half, half)]
                moved = moved + factor[:, None] * (walkers[mine] - moved)
                change = (size - 1) * np.log(factor)
            else:
                one = rng.integers(0, half, half)
                other = (one + rng.integers(1, half, half)) % half
                reach = np.where(rng.random(half) < 0.8, 1.7 / np.sqrt(2 * size), 1.0)[:, None]
                moved = walkers[mine] + reach * (others[one] - others[other]) + rng.normal(0, 1e-5, (half, size))
                change = np.zeros(half)
            found = evidence.log_posterior(moved)
            taken = np.log(rng.random(half)) < change + found - fit[mine]
            walkers[mine] = np.where(taken[:, None], moved, walkers[mine])
            fit[mine] = np.where(taken, found, fit[mine])
        if step == WARM_UP // 2:  # some start where nothing fits and nothing near fits better: they begin elsewhere
            lost = np.flatnonzero(fit < fit.max() - FAR_BELOW)
            found_again = rng.choice(np.flatnonzero(fit >= fit.max() - FAR_BELOW), len(lost))
            walkers[lost], fit[lost] = walkers[found_again], fit[found_again]
        if step >= WARM_UP and step % EVERY == 0:
            kept.append(walkers.copy())
    return np.concatenate(kept)
