"""What scoring leaves: scores and maps, heatmaps, regions, cuts, drift."""

from blemish.scores.flags import above
from blemish.scores.scores import Scores

__all__ = ["Scores", "above"]
