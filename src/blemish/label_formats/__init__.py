"""Annotations in the formats of labelling programs: one file a format, pure functions from and to plain data."""
