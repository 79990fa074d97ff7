"""`hnv metrics`: how much two videos differ."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, Any

import click

from hnervcodec.commands.files import open_video
from hnervcodec.errors import HnervError, SourceError, UsageError

if TYPE_CHECKING:
    from hnervcodec.benchmark.frame_quality import Quality
    from hnervcodec.benchmark.vmaf import Vmaf
    from hnervcodec.bitstream.headers import VideoHeader


@click.command(
    short_help="Compare two videos by PSNR and SSIM.",
    epilog="See also: hnv help rates.",
)
@click.argument("reference", metavar="REF", type=click.Path())
@click.argument("distorted", metavar="DIST", type=click.Path())
@click.option("--limit", type=click.IntRange(1), help="Frames to compare at most.")
@click.option("--csv", "table", metavar="FILE", help="A row per frame; - for standard output.")
@click.option(
    "--vmaf", is_flag=True, help="Fail where VMAF cannot be computed; default: leave it out."
)
@click.option("--json", "as_json", is_flag=True, help="For programs: the whole and every frame.")
@click.option("--plot", metavar="FILE", help="PSNR over the frames, as a PNG (needs matplotlib).")
def metrics(
    reference: str,
    distorted: str,
    limit: int | None,
    table: str | None,
    vmaf: bool,
    as_json: bool,
    plot: str | None,
) -> None:
    """Say how much the video DIST differs from REF; either may be a .hnv file.

    PSNR and SSIM are those of ffmpeg's filters, MS-SSIM is of luma. VMAF (default model) is there
    if an ffmpeg with libvmaf is on PATH. RGB is compared by its planes G, B and R, without these
    two and 6:1:1. The two must have one size, pixel format and number of frames. Identical planes
    have an infinite PSNR, null in JSON.

    \b
    hnv metrics in.mp4 out.hnv --csv frames.csv --plot frames.png
    """
    with open_video(reference) as (video, sources), open_video(distorted) as (other, made):
        for name in ("width", "height", "format_name", "bit_depth"):
            if getattr(video, name) != getattr(other, name):
                raise UsageError(
                    f"{reference} and {distorted} differ in {name.split('_name')[0]}: "
                    f"{getattr(video, name)} and {getattr(other, name)}"
                )
        with open_vmaf(video, vmaf) as judge:
            from hnervcodec.benchmark.frame_quality import Comparison, by_plane

            comparison = Comparison(video)
            try:
                for pair in islice(zip(sources, made, strict=True), limit):
                    comparison.add(*pair)
                    if judge:
                        judge.add(*pair)
            except ValueError as error:
                raise UsageError(
                    f"{reference} and {distorted} differ in their number of frames: use --limit"
                ) from error
            if not comparison.frames:
                raise SourceError(f"{reference} holds no frames")
            vmafs = scores(judge, vmaf) if judge else []
    whole = by_plane(comparison.whole, video)
    rows: list[dict[str, Any]] = [
        {"frame": n, **by_plane(frame, video)} for n, frame in enumerate(comparison.frames)
    ]
    if vmafs:
        whole["vmaf"] = fmean(vmafs)
        rows = [{**row, "vmaf": value} for row, value in zip(rows, vmafs, strict=True)]
    if table:
        write_table(table, rows)
    if plot:
        title = f"{distorted}, {comparison.whole.psnr_y:.2f} dB {video.plane_names[0]}"
        write_plot(plot, comparison.frames, video, title)
    if as_json:
        click.echo(json.dumps({"frames": [finite(row) for row in rows], **finite(whole)}))
    elif table != "-":
        print_summary(whole)


@contextmanager
def open_vmaf(video: VideoHeader, is_asked: bool) -> Iterator[Vmaf | None]:
    """None where there is no libvmaf or no luma, and nobody asked for it."""
    from hnervcodec.benchmark import vmaf

    if video.is_rgb:
        if is_asked:
            raise UsageError("--vmaf is of luma, which RGB has none of")
        yield None
        return
    program = vmaf.find()
    if program is None:
        if is_asked:
            raise UsageError("--vmaf needs a program ffmpeg with libvmaf on PATH")
        yield None
        return
    with vmaf.Vmaf(program, video) as judge:
        yield judge


def scores(judge: Vmaf, is_asked: bool) -> list[float]:
    """VMAF of each frame; none where ffmpeg fails and nobody asked for it."""
    try:
        return judge.scores()
    except HnervError as error:
        if is_asked:
            raise
        click.echo(f"note: {error}", err=True)
        return []


def print_summary(whole: dict[str, float]) -> None:
    """Prints the means over all frames, a line per metric."""
    names = {"psnr": "PSNR, dB", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "vmaf": "VMAF"}
    for kind, label in names.items():
        values = {
            key.removeprefix(kind).strip("_"): value
            for key, value in whole.items()
            if key.startswith(kind) and not math.isnan(value)
        }
        digits = 4 if "ssim" in kind else 2
        parts = (
            f"{'6:1:1' if key == '611' else key} {value:.{digits}f}".strip()
            for key, value in values.items()
        )
        if values:
            click.echo(f"{label:9} {'  '.join(parts)}")


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON wants it: null for what is no number."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


def write_plot(path: str, frames: list[Quality], video: VideoHeader, title: str) -> None:
    """Writes the curves of all frames as a picture; UsageError without matplotlib."""
    from hnervcodec.benchmark import frame_quality
    from hnervcodec.system.atomic_files import complete_or_absent

    try:
        with complete_or_absent(path) as name:
            frame_quality.plot(str(name), frames, video, title)
    except ImportError as error:
        raise UsageError("--plot needs matplotlib: pip install matplotlib") from error


def write_table(path: str, rows: list[dict[str, Any]]) -> None:
    """Writes a row per frame, as CSV."""
    from hnervcodec.benchmark.csv_rows import to_csv
    from hnervcodec.system.atomic_files import open_complete_or_absent

    text = to_csv(rows)
    if path == "-":
        click.echo(text, nl=False)
    else:
        with open_complete_or_absent(path) as file:
            file.write(text.encode())
