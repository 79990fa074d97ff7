"""What random access costs in bytes and in time, as a table and a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hnervcodec.benchmark.access_files import HNV, AccessFile
from hnervcodec.benchmark.access_times import AccessTime
from hnervcodec.benchmark.plots import logarithmic, picture

REACH = 0.15  # of a curve's logarithm of bytes, beyond its last point


@dataclass(frozen=True, slots=True)
class Way:
    """A codec with its preset and its group length, as it is used for random access."""

    codec: str
    preset: str
    gop: int

    def __str__(self) -> str:
        words = f"{self.codec} {self.preset}".strip()
        return f"{words} g={self.gop}" if self.gop else words


def ways_of(files: Iterable[AccessFile]) -> dict[Way, list[AccessFile]]:
    """The files of each way, by size."""
    made: dict[Way, list[AccessFile]] = {}
    for file in files:
        made.setdefault(Way(file.codec, file.preset, file.gop), []).append(file)
    return {way: sorted(line, key=lambda file: file.bytes) for way, line in made.items()}


def bytes_at(line: Sequence[AccessFile], psnr: float) -> float:
    """Bytes at a 6:1:1 PSNR, between two measured files straight in their logarithm. A little
    beyond the last one as well, by `REACH`; nan farther away, or where more bytes are no better."""
    points = sorted((file.psnr_611, math.log(file.bytes)) for file in line)
    if points and points[0][0] == math.inf:  # without loss
        return float(line[0].bytes)
    for (worse, fewer), (better, more) in pairwise(points):
        is_last = (better, more) == points[-1]
        is_first = (worse, fewer) == points[0]
        if (psnr < worse and not is_first) or (psnr > better and not is_last):
            continue
        if better <= worse or more <= fewer:
            return math.nan
        size = fewer + (psnr - worse) / (better - worse) * (more - fewer)
        inside = fewer - REACH <= size <= more + REACH
        return math.exp(size) if inside else math.nan
    return math.nan


def nearest(line: Sequence[AccessFile], psnr: float) -> AccessFile:
    """The file whose PSNR is nearest."""
    return min(line, key=lambda file: abs(file.psnr_611 - psnr))


def targets(files: Sequence[AccessFile]) -> list[AccessFile]:
    """What is compared with: this codec's files by size, of the slowest preset that has any last;
    without one, the middle of another codec's at ten frames."""
    ours = sorted((file for file in files if file.codec == HNV), key=lambda file: file.bytes)
    if ours:
        return ours
    lines = sorted(ways_of(files).items(), key=lambda item: abs(item[0].gop - 10))
    return [lines[0][1][len(lines[0][1]) // 2]] if lines else []


def rows(
    files: Sequence[AccessFile], times: Sequence[AccessTime], target: AccessFile
) -> list[list[str]]:
    """A row for each way, under `COLUMNS`: bytes at the target's PSNR, and the times of the file
    that is nearest to it, with the processor if it was another one than the target's."""
    timed, own = {time.path: time for time in times}, processor_of(times, target)
    made = []
    for way, size, near in _compared(files, target):
        cells = [str(way), _count(size), _ratio(size / target.bytes), f"{near.ms_ssim:.4f}"]
        if time := timed.get(near.path):
            cells += [
                _pair(time.cold_ms, time.cold_p95_ms),
                _pair(time.one_ms, time.one_p95_ms),
                _pair(time.two_ms, time.two_p95_ms),
                _pair(time.apart_ms, time.apart_p95_ms),
                _pair(time.six_ms, time.six_p95_ms),
                f"{time.loader_0:.0f}",
                f"{time.loader_2:.0f}",
                f"{time.open_kib:,.0f}",
                time.reader if time.processor == own else f"{time.reader}, {time.processor}",
            ]
        made.append(cells + [""] * (len(COLUMNS) - len(cells)))
    return made


def processor_of(times: Sequence[AccessTime], target: AccessFile) -> str:
    """On which processors the target was timed; empty if it was not."""
    return next((time.processor for time in times if time.path == target.path), "")


def _compared(
    files: Sequence[AccessFile], target: AccessFile
) -> Iterator[tuple[Way, float, AccessFile]]:
    """Each way, ours first, its bytes at the target's PSNR, and its file that is nearest to it."""
    for way, line in sorted(ways_of(files).items(), key=lambda item: item[0].codec != HNV):
        if way.codec != HNV:
            yield way, bytes_at(line, target.psnr_611), nearest(line, target.psnr_611)
        elif target.codec != HNV:
            yield way, target.bytes, nearest(line, target.psnr_611)
        elif way.preset == target.preset:
            yield way, target.bytes, target


COLUMNS = [
    "codec",
    "bytes",
    "of ours",
    "MS-SSIM",
    "cold, ms",
    "one",
    "two",
    "two apart",
    "six",
    "loader, fps",
    "2 workers",
    "open, KiB",
    "read by",
]


def _count(value: float) -> str:
    return "" if math.isnan(value) else f"{value:,.0f}"


def _ratio(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _pair(middle: float, high: float) -> str:
    return f"{middle:.1f} / {high:.1f}"


def crossings(files: Sequence[AccessFile], target: AccessFile) -> list[str]:
    """A line for each other codec: from which group length on it needs fewer bytes than ours; none
    if the target is none of ours."""
    if target.codec != HNV:
        return []
    lines: dict[str, list[tuple[int, float]]] = {}
    for way, line in ways_of(files).items():
        if way.codec != HNV and way.gop:
            sizes = lines.setdefault(f"{way.codec} {way.preset}".strip(), [])
            sizes.append((way.gop, bytes_at(line, target.psnr_611)))
    made = []
    for name, sizes in lines.items():
        known = sorted((gop, size) for gop, size in sizes if not math.isnan(size))
        head = f"at {target.psnr_611:.2f} dB, hnv's {target.bytes:,} bytes: {name}"
        if not known:
            better = [
                file
                for file in files
                if f"{file.codec} {file.preset}".strip() == name
                and file.psnr_611 >= target.psnr_611
                and file.bytes <= target.bytes
            ]
            if better:
                file = min(better, key=lambda file: file.bytes)
                size = f"{file.bytes:,} bytes at g={file.gop}"
                made.append(f"{head} is smaller and better: {size}, {file.psnr_611:.2f} dB")
            else:
                made.append(f"{head} was not measured at this quality")
            continue
        smaller = next((gop for gop, size in known if size < target.bytes), None)
        larger = [gop for gop, _ in known if smaller is None or gop < smaller]
        if smaller is None:
            made.append(f"{head} is larger at every group length up to g={known[-1][0]}")
        elif not larger:
            made.append(f"{head} is smaller from g={smaller} on, the shortest that was measured")
        else:
            made.append(f"{head} becomes smaller between g={larger[-1]} and g={smaller}")
    return made


def plot(
    path: str,
    files: Sequence[AccessFile],
    times: Sequence[AccessTime],
    target: AccessFile,
    title: str,
) -> None:
    """Bytes at the target's PSNR over milliseconds per access, a curve per codec over its group
    lengths, as a PNG. ImportError without matplotlib."""
    timed = {time.path: time for time in times}
    curves: dict[str, list[tuple[float, float, str]]] = {}
    for way, line in ways_of(files).items():
        near = target if target.codec == HNV == way.codec else nearest(line, target.psnr_611)
        if way.codec == HNV and (near.preset != way.preset or near.path not in timed):
            continue
        size = float(target.bytes) if near is target else bytes_at(line, target.psnr_611)
        if near.path in timed and not math.isnan(size):
            label = f"{way.codec} {way.preset}".strip()
            word = f"{way.gop}" if way.gop else ""
            curves.setdefault(label, []).append((timed[near.path].one_ms, size, word))
    with picture(path, title=title) as axes:
        for label, curve in curves.items():
            style = "*" if label.startswith(HNV) else "o-"
            marks = 16 if style == "*" else 6
            drawn = axes.plot(
                [at for at, _, _ in curve],
                [high for _, high, _ in curve],
                style,
                markersize=marks,
                label=label,
            )
            for at, high, word in curve:
                axes.annotate(
                    word,
                    (at, high),
                    (4, 4),
                    textcoords="offset points",
                    fontsize=7,
                    color=drawn[0].get_color(),
                )
        axes.set(
            xlabel="milliseconds per random frame, open file (numbers: frames per group)",
            ylabel=f"bytes at {target.psnr_611:.2f} dB (6:1:1 PSNR)",
        )
        logarithmic(axes)
