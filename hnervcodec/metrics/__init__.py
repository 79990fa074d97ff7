"""Distortion measures that fits and comparisons share."""
