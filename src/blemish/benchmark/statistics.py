"""The statistics that FUN-AD rests on, as functions for anyone's features: who is near to whom, and how often.

See `spec/fun-ad.md`, section 10 (F1 to F3, closed forms); the paper's Sec. 3.1, 3.2 and Appendix 1. All of them look at
truth: they describe data, no detector uses them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.machine.errors import RequestError

Array = NDArray[np.float64]
Truth = NDArray[np.bool_]
KINDS = ("normal", "anomaly", "mixed")  # pairs of normal samples, of anomalies, of one of each
ROWS = 1024  # of a distance matrix at a time: 80 MB for 20,000 samples


@dataclass(frozen=True)
class Histograms:
    """Counts over shared bins.

    Attributes
    ----------
    edges : (B + 1,) rising.
    counts : by kind, (B,).
    means : by kind, of the values themselves; NaN where there is no value.
    """

    edges: Array
    counts: Mapping[str, Array]
    means: Mapping[str, float]


def distance_histograms(features: NDArray[np.floating], anomalous: Truth, bins: int = 60) -> Histograms:
    """Euclidean distances of all pairs of samples by kind of pair, (N, D) features and (N,) truth (F1)."""
    _check(features, anomalous)
    top = max(float(distances.max()) for _, distances in _distances(features))
    edges = np.linspace(0, top or 1.0, bins + 1)
    counts = {kind: np.zeros(bins) for kind in KINDS}
    sums = dict.fromkeys(KINDS, 0.0)
    for start, distances in _distances(features):
        rows = np.arange(start, start + len(distances))[:, None]
        later = np.arange(len(features))[None, :] > rows  # each pair once, none with itself
        for kind, chosen in _kinds(anomalous[rows[:, 0]], anomalous).items():
            values = distances[chosen & later]
            counts[kind] += np.histogram(values, edges)[0]
            sums[kind] += float(values.sum())
    totals = {kind: float(count.sum()) for kind, count in counts.items()}
    means = {kind: sums[kind] / total if total else float("nan") for kind, total in totals.items()}
    return Histograms(edges, counts, means)


def mutual_pairs(features: NDArray[np.floating]) -> NDArray[np.int64]:
    """(M, 2) the pairs i < j of samples (N, D) that are each other's nearest one; of ties, the first."""
    nearest = np.empty(len(features), dtype=np.int64)
    for start, distances in _distances(features):
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        nearest[start + rows] = distances.argmin(1)
    own = np.arange(len(features))
    first = own[(nearest[nearest] == own) & (own < nearest)]
    return np.stack([first, nearest[first]], axis=1)


def matching_ratios(features: NDArray[np.floating], anomalous: Truth) -> dict[str, float]:
    """2 x mutually nearest pairs / samples of that kind (F2): normal, anomaly, and mixed pairs by all samples.

    `homogeneous` is the share of pairs whose two samples are of one class, NaN without pairs; `chance` is that of
    pairs drawn by lot, which is high where one class is rare.
    """
    _check(features, anomalous)
    pairs = mutual_pairs(features)
    bad = anomalous[pairs].sum(1)  # 0, 1 or 2 anomalies a pair
    normal, mixed, anomaly = (int((bad == number).sum()) for number in range(3))
    counts = int((~anomalous).sum()), int(anomalous.sum())
    return {
        "normal": 2 * normal / counts[0],
        "anomaly": 2 * anomaly / counts[1],
        "mixed": 2 * mixed / len(anomalous),
        "homogeneous": (normal + anomaly) / len(pairs) if len(pairs) else float("nan"),
        "chance": sum(n * (n - 1) for n in counts) / (len(anomalous) * (len(anomalous) - 1)),
    }


@dataclass(frozen=True)
class Gaussians:
    """The ideal case of Sec. 3.1: isotropic normal N(0, spread_n^2 I), anomalies N(gap e_1, spread_a^2 I).

    Attributes
    ----------
    dimensions : of the features.
    spread_n, spread_a : standard deviations; the paper assumes spread_n < spread_a.
    gap : distance of the two means.
    """

    dimensions: int = 16
    spread_n: float = 1.0
    spread_a: float = 2.0
    gap: float = 0.0

    def sample(self, normals: int, anomalies: int, seed: int = 0) -> tuple[Array, Truth]:
        """Features (normals + anomalies, D) and their truth."""
        rng = np.random.default_rng(seed)
        anomalous = np.arange(normals + anomalies) >= normals
        features = rng.normal(size=(len(anomalous), self.dimensions))
        features *= np.where(anomalous, self.spread_a, self.spread_n)[:, None]
        features[anomalous, 0] += self.gap
        return features, anomalous

    def closer_than(self, distance: float) -> dict[str, float]:
        """The probability that a pair of each kind lies closer than `distance`: chi-squared and non-central."""
        from scipy.stats import chi2, ncx2

        both = self.spread_n**2 + self.spread_a**2
        square, offset = distance**2, self.gap**2 / both
        return {
            "normal": float(chi2.cdf(square / (2 * self.spread_n**2), self.dimensions)),
            "anomaly": float(chi2.cdf(square / (2 * self.spread_a**2), self.dimensions)),
            "mixed": float(
                ncx2.cdf(square / both, self.dimensions, offset) if offset else chi2.cdf(square / both, self.dimensions)
            ),
        }

    def ratios(self, distance: float) -> dict[str, float]:
        """How much likelier a normal pair is to be closer than `distance` than the other kinds of pair."""
        closer = self.closer_than(distance)
        return {kind: closer["normal"] / closer[kind] if closer[kind] else float("inf") for kind in KINDS[1:]}

    def limits(self) -> dict[str, float]:
        """The ratios as the distance goes to 0."""
        both, half = self.spread_n**2 + self.spread_a**2, self.dimensions / 2
        return {
            "anomaly": (self.spread_a / self.spread_n) ** self.dimensions,
            "mixed": (both / (2 * self.spread_n**2)) ** half * float(np.exp(self.gap**2 / both / 2)),
        }

    def simulated(self, distance: float, pairs: int, seed: int = 0) -> dict[str, float]:
        """Shares of random pairs of each kind that are closer than `distance`: what `closer_than` must equal."""
        normal, _ = self.sample(2 * pairs, 0, seed)
        anomaly, _ = self.sample(0, 2 * pairs, seed + 1)
        both = {
            "normal": (normal[:pairs], normal[pairs:]),
            "anomaly": (anomaly[:pairs], anomaly[pairs:]),
            "mixed": (normal[:pairs], anomaly[:pairs]),
        }
        return {kind: float((np.linalg.norm(a - b, axis=1) < distance).mean()) for kind, (a, b) in both.items()}


def score_histograms(score: NDArray[np.floating], anomalous: Truth, bins: int = 40) -> Histograms:
    """Scores (N,) of normal and anomalous samples over shared bins, such as before and after training (F4)."""
    edges = np.linspace(float(score.min()), float(score.max()) or 1.0, bins + 1)
    if edges[0] == edges[-1]:
        edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, bins + 1)
    parts = {"normal": score[~anomalous], "anomaly": score[anomalous]}
    return Histograms(
        edges,
        {kind: np.histogram(part, edges)[0].astype(float) for kind, part in parts.items()},
        {kind: float(part.mean()) if len(part) else float("nan") for kind, part in parts.items()},
    )


def _distances(features: NDArray[np.floating]) -> Iterator[tuple[int, Array]]:
    """(first row, distances (rows, N)) in slices. Double precision about the mean: copies are at 0, or nearly so."""
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    squares = (centred**2).sum(1)
    for start in range(0, len(centred), ROWS):
        part = slice(start, start + ROWS)
        squared = squares[part, None] + squares[None, :] - 2 * centred[part] @ centred.T
        yield start, np.sqrt(squared.clip(0))


def _kinds(mine: Truth, others: Truth) -> dict[str, Truth]:
    one, two = mine[:, None], others[None, :]
    return {"normal": ~one & ~two, "anomaly": one & two, "mixed": one ^ two}


def _check(features: NDArray[np.floating], anomalous: Truth) -> None:
    if features.ndim != 2 or len(features) != len(anomalous) or len(features) < 2:
        raise RequestError(
            f"Features must be (N, D) with a truth (N,), N at least 2; got {features.shape} and {anomalous.shape}."
        )
    if not np.isfinite(features).all():
        raise RequestError("Features must be finite numbers.")
    if not anomalous.any() or anomalous.all():
        raise RequestError(f"Pairs of every kind are needed; {int(anomalous.sum())} of {len(anomalous)} are anomalies.")
