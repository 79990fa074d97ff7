"""Bjontegaard's difference in rate between two codecs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

LEAST_POINTS = 3  # of a curve that a BD-rate says anything about; studies take four or more
Curve = Sequence[tuple[int, float]]  # (bytes, PSNR in dB) of one codec


def bd_rate(anchor: Curve, test: Curve) -> float:
    """Bjontegaard's average difference in rate between curves, percent, by PCHIP where they
    overlap: negative if `test` needs less. nan without overlap, for curves of less than
    LEAST_POINTS, and for those that do not rise. ImportError without the package bjontegaard."""
    from bjontegaard import bd_rate

    lines = [np.array(sorted(curve)) for curve in (anchor, test)]
    for line in lines:
        if len(line) < LEAST_POINTS or not (np.diff(line[:, 1]) > 0).all():
            return math.nan
    if not np.isfinite(np.concatenate(lines)).all():
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(bd_rate(*lines[0].T, *lines[1].T, "pchip", False, min_overlap=0))
