"""Measures of distortion that fits and comparisons share."""
