"""hnv inpaint"""

from __future__ import annotations

import tempfile
from typing import BinaryIO, cast

import click

from hnervcodec.commands.encode import SCENECUT, checked_masks, scanned, use_threads
from hnervcodec.commands.files import can_be_reread, check_files, open_sink
from hnervcodec.commands.options import (
    FIT_DEVICE,
    OUTPUT_FORMATS,
    OVERWRITE,
    PRESET,
    QUIET,
    SEED,
    THREADS,
)
from hnervcodec.commands.progress import EncodeProgress
from hnervcodec.errors import UsageError


@click.command()
@click.argument("source", metavar="IN")
@click.option("--mask", required=True, metavar="MASK", help="As in hnv encode.")
@click.option("-o", "--output", required=True, metavar="OUT", help="As in hnv decode.")
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
@FIT_DEVICE
@THREADS
@OVERWRITE
@QUIET
def inpaint(
    source: str, mask: str, output: str, name: str | None, bpp: float, preset: str, seed: int,
    device: str, threads: int | None, yes: bool, no: bool, quiet: bool,
) -> None:  # fmt: skip
    """Replace what MASK covers in the video IN by what a network makes of the rest.

    A network is fitted to all frames without what is masked; only the masked samples come from
    it, the others stay the source's (exactly, in a lossless OUT such as .mkv or .y4m).

    \b
    hnv inpaint in.mp4 --mask logo.png -o out.mkv
    """
    if not can_be_reread(source):
        raise UsageError("IN is read twice and cannot be a pipe")
    from hnervcodec import encoder, sinks, video
    from hnervcodec.decoder import Decoder
    from hnervcodec.masks import restored
    from hnervcodec.presentation import whole

    use_threads(threads)
    name = name or ("y4m" if output == "-" else sinks.format_of(output))
    with video.VideoSource(source) as frames:
        header = frames.header
        lengths, extras, notes = scanned(source, encoder.DEFAULT_SEGMENT_FRAMES, SCENECUT, "copy")
        assert lengths is not None and extras is not None
        count = sum(lengths)
        check_files(source, output, name, range(count), yes, no)
        masks, again_masks = (checked_masks(mask, header, count) for _ in range(2))
        assert masks is not None and again_masks is not None
        report = EncodeProgress(header, preset, lengths, quiet)
        for note in [] if quiet else notes:
            click.echo(f"note: {note}", err=True)
        shown = whole(extras)
        with open_sink(output, name, header, shown) as sink, tempfile.TemporaryFile() as file:
            coded = cast(BinaryIO, file)
            encoder.encode(
                header, frames.frames(), coded, preset=preset, seed=seed, device=device,
                bytes_per_frame=bpp * header.width * header.height / 8, report=report,
                lengths=lengths, masks=masks,
            )  # fmt: skip
            coded.seek(0)
            with video.VideoSource(source) as again, Decoder(coded) as decoder:
                made = decoder.frames(range(len(decoder)))
                for given, hidden, (n, planes) in zip(
                    again.frames(), again_masks, made, strict=False
                ):
                    sink.write(n, restored(given, planes, hidden))
