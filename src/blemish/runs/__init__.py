"""A Run on disk: a fitted detector with its decision and the scores that it was made on."""
