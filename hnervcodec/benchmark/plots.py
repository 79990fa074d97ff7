"""Pictures of curves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@contextmanager
def picture(path: str | Path, size: tuple[float, float] = (8, 5.5)) -> Iterator[Axes]:
    """Axes to draw labelled lines on, which become a PNG at the end of the block. size: in units of
    110 pixels.
    ImportError without matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(size, dpi=110, layout="tight")
    axes = figure.subplots()
    yield axes
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(path, format="png")


def rate_axis(axes: Axes, ticks: list[float]) -> None:
    """A logarithmic x axis with these ticks only, as plain numbers."""
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
