"""A scikit-learn estimator for arrays of features: outliers among rows, without images and without labels."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from blemish.images import ImageSet
from blemish.jobs.fitting import fit
from blemish.machine.errors import RequestError


class OutlierDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Outliers in an unlabelled array of features by a detector of blemish, in the conventions of scikit-learn.

    scikit-learn's scores are higher for more normal rows, the opposite of those elsewhere in blemish.

    Parameters
    ----------
    detector : a name of `blemish detectors` that takes features. "nearest_images", the default, and "softpatch"
        also find a few outliers that are like each other; "patchcore" and "inreach" count such a cluster as normal.
    contamination : the share of the rows that are outliers, above 0 and up to 0.5; "auto" decides from the scores.
    settings : settings of the detector by name; None for its defaults.
    random_state : a whole number, 0 or more; the same one gives the same results.
    threads : cores to use; all by default.

    Attributes
    ----------
    offset_ : rows whose `score_samples` are below it are outliers.
    run_ : the `Run` behind it, with its decision and the scores of the rows of `fit`.
    n_features_in_ : columns seen by `fit`.
    feature_names_in_ : their names, where `fit` was given a data frame with names.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(60, 4))
    >>> rows[0] = 9
    >>> found = OutlierDetector(contamination=1 / 60, threads=1).fit(rows)
    >>> np.flatnonzero(found.predict(rows) == -1).tolist()
    [0]
    >>> bool(found.score_samples(rows)[0] < found.offset_)
    True
    """

    def __init__(
        self,
        detector: str = "nearest_images",
        *,
        contamination: float | str = "auto",
        settings: dict[str, Any] | None = None,
        random_state: int = 0,
        threads: int | None = None,
    ) -> None:
        self.detector = detector
        self.contamination = contamination
        self.settings = settings
        self.random_state = random_state
        self.threads = threads

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002 - names of scikit-learn
        """Learn what is normal from the rows of X (N, D), most of which are; `y` is not used.

        Raises `RequestError`, a `ValueError`, for a contamination out of range or too few rows.
        """
        rows = validate_data(self, X, dtype=np.float32, ensure_min_samples=2)
        share = None if self.contamination == "auto" else self.contamination
        if share is not None and not (isinstance(share, (int, float)) and 0 < share <= 0.5):
            raise RequestError(f"`contamination` is 'auto', or above 0 and up to 0.5; got {self.contamination!r}.")
        self.run_ = fit(
            ImageSet.of_features(rows),
            detector=self.detector,
            settings=self.settings or {},
            contamination=share,
            seed=int(self.random_state or 0),
            threads=self.threads,
            progress=False,
        )
        self.offset_ = -self.run_.threshold_
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """How normal the rows of X (N, D) are, (N,); higher is more normal.

        A row that was learned from has the score that it got without being compared with itself.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float32, reset=False)
        scores = self.run_.score(ImageSet.of_features(rows), threads=self.threads, progress=False)
        return -scores.image.astype(np.float64)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """`score_samples` less `offset_`, (N,): below 0 for outliers."""
        found: NDArray[np.float64] = self.score_samples(X) - self.offset_
        return found

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """-1 for outliers and 1 for the others, (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)
