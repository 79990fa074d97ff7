"""hnv metrics"""

from __future__ import annotations

import io
import json
import math
from dataclasses import asdict
from itertools import islice
from typing import Any

import click

from hnervcodec.commands.files import open_video
from hnervcodec.errors import SourceError, UsageError


@click.command(
    short_help="Compare two videos by PSNR and SSIM.",
    epilog="See also: hnv help rates.",
)
@click.argument("reference", metavar="REF", type=click.Path())
@click.argument("distorted", metavar="DIST", type=click.Path())
@click.option("--limit", type=click.IntRange(1), help="Frames to compare at most.")
@click.option("--csv", "table", metavar="FILE", help="A row per frame; - for standard output.")
@click.option("--json", "as_json", is_flag=True, help="For programs: the whole and every frame.")
@click.option("--plot", metavar="FILE", help="PSNR over the frames, as a PNG (needs matplotlib).")
def metrics(
    reference: str, distorted: str, limit: int | None, table: str | None, as_json: bool,
    plot: str | None,
) -> None:  # fmt: skip
    """Say how much the video DIST differs from REF; either may be a .hnv file.

    PSNR and SSIM are those of ffmpeg's filters, MS-SSIM is of luma. The two must have one size,
    pixel format and number of frames. Identical planes have an infinite PSNR, null in JSON.

    \b
    hnv metrics in.mp4 out.hnv --csv frames.csv --plot frames.png
    """
    from hnervcodec import quality

    with open_video(reference) as (video, sources), open_video(distorted) as (other, made):
        same = ("width", "height", "chroma_format", "bit_depth")
        for name in same:
            if getattr(video, name) != getattr(other, name):
                raise UsageError(
                    f"{reference} and {distorted} differ in {name.replace('_', ' ')}: "
                    f"{getattr(video, name)} and {getattr(other, name)}"
                )
        try:
            pairs = islice(zip(sources, made, strict=True), limit)
            frames = list(quality.compare(video, pairs))
        except ValueError as error:
            raise UsageError(
                f"{reference} and {distorted} differ in their number of frames: use --limit"
            ) from error
    if not frames:
        raise SourceError(f"{reference} holds no frames")
    whole = quality.summary(video, frames)
    rows = [asdict(frame) for frame in frames]
    if table:
        write_table(table, rows)
    if plot:
        from hnervcodec.files import complete_or_absent

        try:
            with complete_or_absent(plot) as path:
                quality.plot(str(path), frames, f"{distorted}, {whole['psnr_y']:.2f} dB Y")
        except ImportError as error:
            raise UsageError("--plot needs matplotlib: pip install matplotlib") from error
    if as_json:
        click.echo(json.dumps({"frames": [finite(row) for row in rows], **finite(whole)}))
    elif table != "-":
        names = {"psnr": "PSNR, dB", "ssim": "SSIM", "ms_ssim": "MS-SSIM"}
        for kind, label in names.items():
            values = {key.removeprefix(kind).strip("_"): value for key, value in whole.items()
                      if key.startswith(kind) and not math.isnan(value)}  # fmt: skip
            digits = 2 if kind == "psnr" else 4
            parts = (f"{key} {value:.{digits}f}".strip() for key, value in values.items())
            click.echo(f"{label:9} {'  '.join(parts)}")


def finite(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value if math.isfinite(value) else None for key, value in row.items()}


def write_table(path: str, rows: list[dict[str, Any]]) -> None:
    import csv

    from hnervcodec.files import open_complete_or_absent

    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if path == "-":
        click.echo(text.getvalue(), nl=False)
    else:
        with open_complete_or_absent(path) as file:
            file.write(text.getvalue().encode())
