"""hnv inpaint"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from typing import BinaryIO, cast

import click

from hnervcodec.commands.files import check_files, open_sink
from hnervcodec.commands.options import (
    FIT_DEVICE,
    OUTPUT_FORMATS,
    OVERWRITE,
    PRESET,
    QUIET,
    RESUME,
    SCENECUT,
    SEED,
    THREADS,
)
from hnervcodec.commands.progress import EncodeProgress
from hnervcodec.commands.where import scanned
from hnervcodec.encoding.job_folder import unfinished
from hnervcodec.errors import UsageError


@click.command(
    short_help="Replace what a mask covers in a video.",
    epilog="See also: hnv help masks.",
)
@click.argument("source", metavar="IN", type=click.Path())
@click.option("--mask", required=True, metavar="MASK", type=click.Path(), help="As in hnv encode.")
@click.option(
    "-o", "--output", required=True, metavar="OUT", type=click.Path(), help="As in hnv decode."
)
@click.option("--format", "name", type=click.Choice(OUTPUT_FORMATS), help="Default: by OUT's name.")
@click.option(
    "--bpp",
    type=click.FloatRange(0, min_open=True),
    default=0.1,
    show_default=True,
    help="Bits per pixel that the fit may take: more for detail, less for what is likely.",
)
@PRESET
@SEED
@RESUME
@FIT_DEVICE
@THREADS
@OVERWRITE
@QUIET
def inpaint(
    source: str,
    mask: str,
    output: str,
    name: str | None,
    bpp: float,
    preset: str,
    seed: int,
    resume: bool,
    device: str,
    threads: int | None,
    yes: bool,
    no: bool,
    quiet: bool,
) -> None:
    """Replace what MASK covers in the video IN by what a network makes of the rest.

    A network is fitted to all frames without what is masked; only the masked samples come from
    it, the others stay the source's (exactly, in a lossless OUT such as .mkv or .y4m).

    \b
    hnv inpaint in.mp4 --mask logo.png -o out.mkv
    hnv inpaint in.mp4 --mask boxes.json -o out.mp4 --preset slow --bpp 0.05
    """
    from hnervcodec.encoding.file_input import Footage, can_be_reread
    from hnervcodec.system.devices import processors

    if not can_be_reread(source):
        raise UsageError("IN is read twice and cannot be a pipe")
    from hnervcodec.decoding.decoder import Decoder
    from hnervcodec.encoding import encoder
    from hnervcodec.encoding.plan import DEFAULT_SEGMENT_FRAMES, Settings, check_rate
    from hnervcodec.media import sinks
    from hnervcodec.media.masks import restored
    from hnervcodec.media.presentation import whole
    from hnervcodec.system.devices import use_threads

    threads = threads or processors()
    use_threads(threads)
    name = name or ("y4m" if output == "-" else sinks.format_of(output))
    footage = Footage(source, mask=mask)
    facts = {
        **footage.facts(),
        "bpp": bpp,
        "preset": preset,
        "seed": seed,
        "device": device,
        "threads": threads,
    }
    is_file = name != "png"
    check_files(source, output, name, range(1), yes, no)
    with (
        unfinished(source, output if is_file else None, resume, yes, facts) as folder,
        footage.open() as frames,
    ):
        header = frames.header
        rate = bpp * header.width * header.height / 8
        check_rate(header, rate)
        report = EncodeProgress(header, preset, quiet)
        scan = scanned(footage, DEFAULT_SEGMENT_FRAMES, SCENECUT, folder, report)
        assert scan is not None
        count = sum(scan.lengths)
        if not is_file:
            is_asked = os.path.exists(sinks.png_name(output, 0))  # above
            check_files(source, output, name, range(count), yes or is_asked, no)
        masking = footage.check_masks(header, scan)
        extras, notes = footage.extras(header, scan)
        assert extras is not None
        for note in [] if quiet else dict.fromkeys([*frames.notes, *notes, *masking]):
            click.echo(f"note: {note}", err=True)
        settings = Settings(
            bytes_per_frame=rate, preset=preset, seed=seed, device=device, lengths=scan.lengths
        )
        to_come, shown = replace(header, frame_count=count), whole(extras)
        with open_sink(output, name, to_come, shown) as sink, tempfile.TemporaryFile() as file:
            coded = cast(BinaryIO, file)
            encoder.encode(
                header,
                frames.frames(),
                coded,
                settings,
                masks=footage.masks(header),
                folder=folder,
                report=report,
            )
            coded.seek(0)
            with footage.open() as again, Decoder(coded) as decoder:
                made = decoder.frames(range(len(decoder)))
                seen = encoder.masked(again.frames(), footage.masks(header))
                for (given, hidden), (n, planes) in zip(seen, made, strict=False):
                    assert hidden is not None
                    sink.write(n, restored(given, planes, hidden))
