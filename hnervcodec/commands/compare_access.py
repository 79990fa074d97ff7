"""`hnv compare --gop`: this codec and others where any frame must be reached at once."""

from __future__ import annotations

from pathlib import Path

import click

from hnervcodec.benchmark import access_report
from hnervcodec.benchmark.access_files import HNV, OTHERS
from hnervcodec.benchmark.access_study import AccessStudy
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.commands.progress import EncodeProgress
from hnervcodec.commands.tables import print_columns
from hnervcodec.planes import Planes
from hnervcodec.system.atomic_files import complete_or_absent


def compare_access(
    source: str,
    header: VideoHeader,
    frames: list[Planes],
    folder: Path,
    codecs: list[str],
    rates: list[str],
    preset: str,
    groups: list[int],
    quiet: bool,
) -> None:
    """Makes and times what is missing, and prints a table for each of hnv's files."""
    name = Path(source).name

    def say(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    study = AccessStudy(Path(source).stem, header, frames, folder, say)
    cases = [(HNV, preset, 0, rate) for rate in rates if HNV in codecs]
    cases += [
        (codec, preset, gop, crf)
        for (codec, preset), factors in OTHERS.items()
        if codec in codecs
        for gop in groups
        for crf in factors
    ]
    try:
        study.code(cases, EncodeProgress(preset, quiet))
        chosen = {study.path_of(case).name for case in cases}
        study.time(file for file in study.nearest_files() if file.path in chosen)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on from here") from None
    files = [file for file in study.files if file.path in chosen]
    click.echo(f"{name}: {len(frames)} frames of {header.width}x{header.height}, any frame at once")
    click.echo("milliseconds per access: median / 95th percentile")
    for target in access_report.targets(files):
        click.echo(f"\nat {target.psnr_611:.2f} dB, of {target.path}:")
        print_columns(access_report.COLUMNS, access_report.rows(files, study.times, target))
        for line in access_report.crossings(files, target):
            click.echo(line)
        try:
            with complete_or_absent(folder / f"{target.path}.png") as path:
                access_report.plot(str(path), files, study.times, target, name)
        except ImportError:
            click.echo("note: the picture needs matplotlib: pip install matplotlib", err=True)
