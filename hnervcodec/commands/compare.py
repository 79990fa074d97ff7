"""`hnv compare`: this codec and others on the same frames, as a table, JSON and a picture."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hnervcodec._version import __version__
from hnervcodec.commands.files import open_video
from hnervcodec.commands.metrics import finite
from hnervcodec.commands.options import PRESET, QUIET
from hnervcodec.commands.progress import EncodeProgress
from hnervcodec.commands.tables import print_columns
from hnervcodec.encoding.observer import Observer
from hnervcodec.errors import OutputError, SourceError, UsageError

if TYPE_CHECKING:
    from hnervcodec.benchmark.other_codecs import Coded
    from hnervcodec.benchmark.study import Case, Point
    from hnervcodec.bitstream.headers import VideoHeader
    from hnervcodec.planes import Planes

HNV = "hnv"  # the codec that is not classical
TABLE, FACTS, PICTURE = "points.csv", "compare.json", "compare.png"


class List(click.ParamType[list[str]]):
    """Values with commas between them, each once."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        return list(dict.fromkeys(part.strip() for part in str(value).split(",")))


@click.command(
    short_help="Compare with x264, x265 and SVT-AV1 at the same rates.",
    epilog="See also: hnv help rates, presets.",
)
@click.argument("source", metavar="IN", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FOLDER",
    type=click.Path(),
    help="Where the results go.",
)
@click.option(
    "--codecs",
    type=List(),
    default="hnv,x264,x265,svtav1",
    show_default=True,
    help="Which to compare, with commas between them.",
)
@click.option(
    "--bpp",
    type=List(),
    default="0.02,0.04,0.07,0.1",
    show_default=True,
    help="Rates in bits per pixel; BD-rates take at least three.",
)
@PRESET
@click.option(
    "--gop",
    type=List(),
    help="For random access: other codecs with a key frame every so many frames, such as 2,10,30.",
)
@click.option("--limit", type=click.IntRange(1), help="Frames to compare at most.")
@QUIET
def compare(
    source: str,
    output: str,
    codecs: list[str],
    bpp: list[str],
    preset: str,
    gop: list[str] | None,
    limit: int | None,
    quiet: bool,
) -> None:
    """Encode the video IN with several codecs at the same rates, and say what each makes of it.

    hnv is measured by its whole file and at --preset; x264 (veryslow), x265 (slow) and SVT-AV1 (5)
    by their elementary streams, at the constant rate factor that comes nearest to the rate from
    below. All frames are held in memory, several times over while one of these encodes.

    FOLDER gets points.csv, compare.json and compare.png (needs matplotlib; BD-rates need
    bjontegaard: pip install hnervcodec[compare]). What points.csv has of these frames is not
    measured again, so that the same command goes on with a comparison that was interrupted.

    With --gop, it is random access that is compared: bytes at the PSNR of each of hnv's files,
    interpolated, and milliseconds per access, so that nothing else should run. FOLDER keeps the
    files, and gets access_files.csv, access_times.csv and a picture for each rate.

    \b
    hnv compare in.mp4 --gop 2,10,30 --bpp 0.05 -o results
    hnv compare in.mp4 --codecs hnv,x265 --bpp 0.02,0.05,0.1 --preset fast -o results
    """
    from hnervcodec.benchmark import other_codecs

    rates = [rate(text) for text in bpp]
    for name in codecs:
        if name not in (HNV, *other_codecs.CODECS):
            known = ", ".join((HNV, *other_codecs.CODECS))
            raise UsageError(f"unknown codec {name!r}: choose from {known}")
    with open_video(source) as (header, read):
        if header.is_rgb:
            raise UsageError(f"{source} is RGB, which most codecs do not code: compare it as YUV")
        frames = list(islice(read, limit))
    if not frames:
        raise SourceError(f"{source} holds no frames")
    for name in codecs:
        if name != HNV:
            other_codecs.check(name, header, frames[0])
    if gop:
        from hnervcodec.commands.compare_access import compare_access

        groups = [group_length(text) for text in gop]
        compare_access(
            source, header, frames, open_folder(output), codecs, bpp, preset, groups, quiet
        )
        return
    from hnervcodec.benchmark import study

    lengths = study.check(header, frames, preset, rates) if HNV in codecs else ()
    content, folder = study.digest(header, frames), open_folder(output)
    cases = []
    for name in codecs:
        version = f"hnv {__version__}" if name == HNV else other_codecs.versions()
        own = preset if name == HNV else other_codecs.CODECS[name].preset
        cases += [study.Case(content, name, own, value, version) for value in rates]
    try:
        points = measured(cases, header, frames, lengths, folder / TABLE, quiet)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on from here") from None
    report(points, folder, Path(source).name)


def rate(text: str) -> float:
    """The bits per pixel that `text` asks for; UsageError if it is no positive number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"--bpp: {text!r} is not a rate such as 0.05")
    return value


def group_length(text: str) -> int:
    """The frames from a key frame to the next that `text` asks for; UsageError if it is none."""
    if text.isdecimal() and 1 <= int(text) <= 10_000:
        return int(text)
    raise UsageError(f"--gop: {text!r} is not a number of frames such as 10")


def open_folder(output: str) -> Path:
    """The folder `output`, made if it is missing; OutputError if it cannot be."""
    folder = Path(output)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {output}: {error.strerror}") from error
    return folder


def measured(
    cases: list[Case],
    header: VideoHeader,
    frames: list[Planes],
    lengths: tuple[int, ...],
    path: Path,
    quiet: bool,
) -> list[Point]:
    """A point for each case; those that the table at `path` lacks are measured and added to it."""
    from hnervcodec.benchmark.study import measure

    def trial(coded: Coded) -> None:
        say(f"    crf {coded.crf}: {coded.bytes:,} bytes, {coded.encode_seconds:.1f} s", quiet)

    points = []
    for number, case in enumerate(cases, 1):
        point = {known.case: known for known in load(path)}.get(case)
        if point is None:
            say(f"{number}/{len(cases)}  {case.codec} {case.preset}, {case.rate:g} bpp", quiet)
            fit = EncodeProgress(case.preset, quiet) if case.codec == HNV else Observer()
            point = measure(case, header, frames, lengths, fit, trial)
            save(path, [*load(path), point])
            if point.bpp > case.rate:
                say(f"note: {case.codec} cannot code these frames at {case.rate:g} bpp", quiet)
        points.append(point)
    return points


def say(line: str, quiet: bool) -> None:
    """A line on standard error, unless it is to be `quiet`."""
    if not quiet:
        click.echo(line, err=True)


def load(path: Path) -> list[Point]:
    """The points measured so far; UsageError if the table at `path` is another one."""
    from hnervcodec.benchmark import csv_rows
    from hnervcodec.benchmark.study import Point

    try:
        return csv_rows.load(path, Point)
    except ValueError as error:
        raise UsageError(f"{error}: move it away, or choose another folder") from error


def save(path: Path, points: list[Point]) -> None:
    """Writes all points as CSV, whole or not at all."""
    from hnervcodec.benchmark.csv_rows import to_csv
    from hnervcodec.system.atomic_files import open_complete_or_absent

    with open_complete_or_absent(path) as file:
        file.write(to_csv(map(asdict, points)).encode())


def report(points: list[Point], folder: Path, name: str) -> None:
    """Everything in compare.json, the picture, and then tables on standard output."""
    from hnervcodec.benchmark import study
    from hnervcodec.system.atomic_files import complete_or_absent, open_complete_or_absent

    rates: dict[str, dict[str, float]] = {}
    try:
        rates = study.bd_rates(points)
    except ImportError:
        click.echo("note: BD-rates need bjontegaard: pip install hnervcodec[compare]", err=True)
    facts = {
        "source": name,
        "points": [finite({**asdict(p), "bpp": p.bpp}) for p in points],
        "bd_rate_percent": {anchor: finite(found) for anchor, found in rates.items()},
    }
    with open_complete_or_absent(folder / FACTS) as file:
        file.write(json.dumps(facts, indent=1).encode() + b"\n")
    try:
        with complete_or_absent(folder / PICTURE) as path:
            study.plot(str(path), points, name)
    except ImportError:
        click.echo("note: the picture needs matplotlib: pip install matplotlib", err=True)
    click.echo(f"{name}: {points[0].frames} frames of {points[0].width}x{points[0].height}")
    print_columns(COLUMNS, map(cells, points))
    if len(rates) > 1:
        click.echo("\nBD-rate by 6:1:1, %: what a row's codec needs more than a column's")
        lines = [
            [codec, *(difference(rates[anchor].get(codec)) for anchor in rates)] for codec in rates
        ]
        print_columns(["", *rates], lines)


COLUMNS = [
    "codec",
    "preset",
    "asked",
    "bpp",
    "bytes",
    "PSNR Y",
    "6:1:1",
    "SSIM",
    "MS-SSIM",
    "encode",
    "decode",
]


def cells(point: Point) -> list[str]:
    """Of a line under COLUMNS."""
    return [
        point.codec,
        point.preset,
        f"{point.rate:g}",
        f"{point.bpp:.4f}",
        f"{point.bytes:,}",
        f"{point.psnr_y:.2f}",
        f"{point.psnr_611:.2f}",
        f"{point.ssim:.4f}",
        f"{point.ms_ssim:.4f}",
        f"{point.encode_seconds:.1f} s",
        f"{point.decode_seconds:.2f} s",
    ]


def difference(percent: float | None) -> str:
    """A percentage with its sign; "-" if it cannot be told, "" if there is none."""
    return "" if percent is None else "-" if math.isnan(percent) else f"{percent:+.1f}"
