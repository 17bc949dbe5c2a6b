"""What scoring leaves: scores and maps, heatmaps, regions, cuts, drift."""

from blemish.scores.scores import Scores, above

__all__ = ["Scores", "above"]
