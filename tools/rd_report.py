"""Plots and tables of the points that tools/rd measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rd_points import Point
from reference import CLIPS, ROOT
from scipy.interpolate import PchipInterpolator

from hnervcodec.benchmark.bd_rate import bd_rate
from hnervcodec.benchmark.plots import picture, rate_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = ROOT / "tools/results/rd"
# Curves to be compared with: codec, preset, tune.
ANCHORS = {
    "x264 medium": ("libx264", "medium", ""),
    "x264 veryslow": ("libx264", "veryslow", ""),
    "x265 medium": ("libx265", "medium", ""),
    "x265 veryslow": ("libx265", "veryslow", ""),
    "x265 veryslow, tune psnr": ("libx265", "veryslow", "psnr"),
    "SVT-AV1 preset 5": ("libsvtav1", "5", ""),
}
COLOURS = ("#9ecae1", "#3182bd", "#fdae6b", "#e6550d", "#a63603", "#74c476")
HNV_COLOURS = {"ultrafast": "#cccccc", "faster": "#bcbddc", "fast": "#9e9ac8", "medium": "#756bb1",
               "slow": "#54278f", "veryslow": "#000000"}  # fmt: skip


def newest(points: Iterable[Point]) -> list[Point]:
    """Of points that repeat a job, the last one."""
    return list({point.job: point for point in points}.values())


def curve(points: list[Point], clip: str, codec: str, preset: str, variant: str) -> list[Point]:
    """By quality, ascending."""
    wanted = (clip, codec, preset, variant)
    found = [p for p in points if (p.clip, p.codec, p.preset, p.variant) == wanted]
    return sorted(found, key=lambda p: p.psnr_611)


def bytes_at(points: list[Point], point: Point, metric: str = "psnr_611") -> float:
    """Bytes at which the curve is as good as `point`; nan outside of it."""
    points = sorted(points, key=lambda p: getattr(p, metric))
    qualities = [getattr(p, metric) for p in points]
    wanted = getattr(point, metric)
    if len(points) < 2 or not qualities[0] <= wanted <= qualities[-1]:
        return math.nan
    return float(np.exp(PchipInterpolator(qualities, np.log([p.bytes for p in points]))(wanted)))


def bd(anchor: list[Point], test: list[Point]) -> float:
    """Bjontegaard's average difference in rate, percent, where the curves overlap."""
    if min(len(anchor), len(test)) < 4:
        return math.nan
    lines = ([(p.bytes, p.psnr_611) for p in line] for line in (anchor, test))
    return bd_rate(*lines)


def plot(points: list[Point], clip: str) -> None:
    with picture(FOLDER / f"{clip}.png") as axes:
        for (name, key), colour in zip(ANCHORS.items(), COLOURS, strict=True):
            line = curve(points, clip, *key)
            if line:
                draw(axes, line, ".-", color=colour, label=name)
        for preset, colour in HNV_COLOURS.items():
            line = curve(points, clip, "hnv", preset, "")
            if line:
                draw(axes, line, "o-", color=colour, linewidth=2, label=f"hnv {preset}")
        own = [p for p in points if p.clip == clip]
        axes.set(xlabel="bits per pixel, whole file", ylabel="PSNR 6:1:1, dB")
        axes.set_title(f"{clip}: {own[0].width}x{own[0].height}, {own[0].frames} frames")
        rate_axis(axes, [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
        rates = [p.bpp for p in own]
        axes.set_xlim(min(rates) / 1.15, max(rates) * 1.15)


def draw(axes: Axes, line: list[Point], style: str, **how: Any) -> None:
    axes.plot([p.bpp for p in line], [p.psnr_611 for p in line], style, **how)


def times(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def points_table(points: list[Point], clip: str) -> list[str]:
    """One row per hnv encode, with its bytes as a multiple of each anchor's at its quality."""
    rows = [
        "| preset | bpp asked | bytes | of target | Y | Cb | Cr | 6:1:1 | RGB | MS-SSIM | encode "
        "| decode | weights | kMAC/pixel "
        "| x264 veryslow | x265 medium | x265 veryslow | SVT-AV1 5 | x265 medium by Y |",
        "|" + "---|" * 19,
    ]
    for preset in HNV_COLOURS:
        for p in sorted(curve(points, clip, "hnv", preset, ""), key=lambda p: p.rate):
            ratios = [
                times(p.bytes / bytes_at(curve(points, clip, *ANCHORS[name]), p))
                for name in ("x264 veryslow", "x265 medium", "x265 veryslow", "SVT-AV1 preset 5")
            ]
            medium = curve(points, clip, *ANCHORS["x265 medium"])
            ratios.append(times(p.bytes / bytes_at(medium, p, "psnr_y")))
            rows.append(
                f"| {preset} | {p.rate:g} | {p.bytes:,} | {100 * p.bpp / p.rate:.1f} % "
                f"| {p.psnr_y:.2f} | {p.psnr_cb:.2f} | {p.psnr_cr:.2f} | {p.psnr_611:.2f} "
                f"| {times(p.psnr_rgb)} | {p.ms_ssim:.4f} "
                f"| {p.encode_seconds:.0f} s{' (one thread)' * (p.threads == 1)} "
                f"| {p.frames / p.decode_seconds:.0f} frames/s | {p.weights:,} "
                f"| {p.macs_per_pixel / 1000:.1f} | {' | '.join(ratios)} |"
            )
    return rows if len(rows) > 2 else []


def bd_table(points: list[Point]) -> list[str]:
    rows = ["| clip, preset | " + " | ".join(ANCHORS) + " |", "|" + "---|" * (len(ANCHORS) + 1)]
    for clip in CLIPS:
        for preset in HNV_COLOURS:
            test = curve(points, clip, "hnv", preset, "")
            cells = [bd(curve(points, clip, *key), test) for key in ANCHORS.values()]
            if not all(map(math.isnan, cells)):
                texts = ["" if math.isnan(c) else f"{c:+.0f} %" for c in cells]
                rows.append(f"| {clip}, {preset} | {' | '.join(texts)} |")
    return rows


def anchors_table(points: list[Point], clip: str) -> list[str]:
    rows = ["| codec | bytes / 6:1:1 dB (encode seconds) |", "|---|---|"]
    for name, key in ANCHORS.items():
        line = curve(points, clip, *key)
        cells = "; ".join(
            f"{p.bytes:,} / {p.psnr_611:.2f} ({p.encode_seconds:.1f})" for p in reversed(line)
        )
        rows.append(f"| {name} | {cells} |")
    return rows


def ablation_table(all_points: list[Point]) -> list[str]:
    """What each change of the encoder does to the quality, and what that is worth in bytes."""
    rows = [
        "| changed | encode | bytes | Y | 6:1:1 | MS-SSIM | lost | in bytes | encode |",
        "|" + "---|" * 9,
    ]
    points = newest(all_points)
    changed = [p for p in points if p.codec == "hnv" and p.variant]
    for p in sorted(changed, key=lambda p: (p.variant, p.clip)):
        full = [
            q for q in all_points if q.job == replace(p.job, variant="") and q.version == p.version
        ]
        if not full:
            continue
        # What the quality between the two costs along the curve, whose points may be newer.
        line = curve(points, p.clip, "hnv", p.preset, "")
        needed = bytes_at(line, full[0]) / bytes_at(line, p)
        worth = "" if math.isnan(needed) else f"{100 * (needed - 1):+.0f} %"
        rows.append(
            f"| {p.variant} | {p.clip} {p.rate:g} bpp, {p.preset} | {p.bytes:,} | {p.psnr_y:.2f} "
            f"| {p.psnr_611:.2f} | {p.ms_ssim:.4f} | {full[0].psnr_611 - p.psnr_611:+.2f} dB "
            f"| {worth} "
            f"| {p.encode_seconds / full[0].encode_seconds:.2f} times |"
        )
    return rows if len(rows) > 2 else []


# Rows of the table in README.md: clip, preset, rate.
TABLE_ROWS = (
    ("carphone", "faster", 0.02), ("carphone", "medium", 0.02), ("carphone", "faster", 0.05),
    ("carphone", "medium", 0.05), ("carphone", "medium", 0.1), ("bunny320", "faster", 0.05),
    ("bunny320", "medium", 0.03), ("bunny320", "slow", 0.03), ("bunny320", "veryslow", 0.03),
    ("bunny320", "medium", 0.06), ("bunny320", "medium", 0.1), ("bikes320", "faster", 0.05),
    ("bikes320", "medium", 0.06), ("bunny1280", "medium", 0.0232), ("bunny1280", "fast", 0.08),
)  # fmt: skip


def long_table(points: list[Point]) -> list[str]:
    names = ("x264 veryslow", "x265 medium", "x265 veryslow", "SVT-AV1 preset 5")
    rows = [
        "| clip | `hnv encode` | bytes | PSNR | x264 veryslow | x265 medium | x265 veryslow "
        "| SVT-AV1 5 | encode | decode | kMAC/pixel |",
        "|" + "---|" * 11,
    ]
    for clip, preset, rate in TABLE_ROWS:
        for p in curve(points, clip, "hnv", preset, ""):
            if p.rate != rate:
                continue
            ratios = [times(p.bytes / bytes_at(curve(points, clip, *ANCHORS[n]), p)) for n in names]
            slow = " *" * (p.threads == 1)
            rows.append(
                f"| {clip.rstrip('0123456789')} {p.width}x{p.height}, {p.frames} frames "
                f"| `--bpp {rate:g} --preset {preset}` | {p.bytes:,} "
                f"| {p.psnr_y:.2f} / {p.psnr_611:.2f} | {' | '.join(ratios)} "
                f"| {p.encode_seconds:.0f} s{slow} "
                f"| {p.frames / p.decode_seconds:.0f} frames/s{slow} "
                f"| {p.macs_per_pixel / 1000:.1f} |"
            )
    return rows


def fill_table(points: list[Point]) -> None:
    """Replaces the table in table.md that has these columns."""
    path, table = FOLDER / "table.md", long_table(points)
    lines = path.read_text().split("\n")
    start = lines.index(table[0])
    end = lines.index("", start)
    path.write_text("\n".join([*lines[:start], *table, *lines[end:]]))


def write(all_points: list[Point]) -> None:
    """Draws every clip's plot and writes the page of tables, and the table in table.md."""
    points = newest(all_points)
    fill_table(points)
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Rate and distortion, measured",
        "",
        "Made by `tools/rd`; every number is in [points.csv](points.csv). hnv: the whole file;",
        "others: the elementary stream. PSNR in dB over all frames; 6:1:1 is (6 Y + Cb + Cr) / 8.",
        "The last columns are bytes as a multiple of that codec's at the same 6:1:1 PSNR, or Y's.",
        "Points of one curve may come from different commits: points.csv names each one's.",
        "",
        "## BD-rate of hnv against each (PCHIP, 6:1:1 PSNR; where curves overlap)",
        "",
        *bd_table(points),
    ]
    for clip in CLIPS:
        if not any(p.clip == clip for p in points):
            continue
        plot(points, clip)
        lines += ["", f"## {clip}", "", f"![{clip}]({clip}.png)", ""]
        lines += [*points_table(points, clip), "", *anchors_table(points, clip)]
    if ablations := ablation_table(all_points):
        lines += [
            "",
            "## Ablations",
            "",
            "One thing changed at a time: what is lost in dB, and how many more bytes it takes to",
            "make up for it along the encoder's curve. Single fits: below 0.1 dB (3 %) is noise.",
            "",
            *ablations,
        ]
    (FOLDER / "README.md").write_text("\n".join(lines) + "\n")
