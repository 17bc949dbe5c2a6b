"""Compare detectors on labelled images: datasets, contamination, metrics, experiments. Detectors see no label."""
