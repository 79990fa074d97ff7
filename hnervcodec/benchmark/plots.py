"""Pictures of curves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@contextmanager
def picture(
    path: str | Path, size: tuple[float, float] = (8, 5.5), title: str = ""
) -> Iterator[Axes]:
    """Axes to draw labelled lines on, which become a PNG at the end of the block.
    size: in units of 110 pixels. title: any words, such as a file's name.
    ImportError without matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(size, dpi=110, layout="tight")
    axes = figure.subplots()
    yield axes
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    # A file's name may hold what no font has, and dollars that are no formula.
    if title:
        axes.set_title(title.encode(errors="replace").decode(), parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(path, format="png")


def rate_axis(axes: Axes, ticks: list[float]) -> None:
    """A logarithmic x axis with these ticks only, as plain numbers."""
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def logarithmic(axes: Axes) -> None:
    """Both axes logarithmic, with ticks at 1, 2 and 5 of every decade, as plain numbers."""
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:,.9g}")
    axes.minorticks_off()
