"""`hnv inpaint`: replaces what a mask covers in a video."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import click

from hnervcodec.commands.files import check_files, open_sink
from hnervcodec.commands.options import (
    FIT_DEVICE,
    OVERWRITE,
    PRESET,
    QUIET,
    RESUME,
    SEED,
    STREAM,
    STRICT,
    THREADS,
)
from hnervcodec.commands.progress import EncodeProgress
from hnervcodec.errors import UsageError
from hnervcodec.media.output_formats import FORMATS, format_of, png_name


@click.command(
    short_help="Replace what a mask covers in a video.",
    epilog="See also: hnv help masks.",
)
@click.argument("source", metavar="IN", type=click.Path())
@click.option("--mask", required=True, metavar="MASK", type=click.Path(), help="As in hnv encode.")
@click.option(
    "-o", "--output", required=True, metavar="OUT", type=click.Path(), help="As in hnv decode."
)
@click.option("--format", "name", type=click.Choice(FORMATS), help="Default: by OUT's name.")
@click.option(
    "--bpp",
    type=click.FloatRange(0, min_open=True),
    default=0.1,
    show_default=True,
    help="Bits per pixel that the fit may take: more for detail, less for what is likely.",
)
@STREAM
@STRICT
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
    stream: int | None,
    strict: bool,
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
    from hnervcodec.bitstream.headers import VideoHeader
    from hnervcodec.encoding.dispatch import Dispatch
    from hnervcodec.encoding.file_input import FileInput, can_be_reread
    from hnervcodec.encoding.inpainting import inpaint as write_inpainted
    from hnervcodec.encoding.rate import Rate
    from hnervcodec.encoding.session import EncodeOptions, open_job_folder
    from hnervcodec.media.presentation import Presentation
    from hnervcodec.media.sinks import Sink

    if not can_be_reread(source):
        raise UsageError("IN is read twice and cannot be a pipe")
    name = name or ("y4m" if output == "-" else format_of(output))
    file_input = FileInput(source, mask=mask, stream=stream, strict=strict)
    options = EncodeOptions(
        rate=Rate(bpp=bpp),
        preset=preset,
        seed=seed,
        device=device,
        dispatch=Dispatch(threads=threads),
    )
    is_file = name != "png"
    check_files(source, output, name, range(1), yes, no)

    def open_checked(header: VideoHeader, shown: Presentation) -> AbstractContextManager[Sink]:
        if not is_file:  # now that their number is known
            is_asked = os.path.exists(png_name(output, 0))  # above
            check_files(source, output, name, range(header.frame_count), yes or is_asked, no)
        return open_sink(output, name, header, shown)

    kept_beside = output if is_file else None
    with open_job_folder(
        file_input, kept_beside, options, resume=resume, discard=yes, kind="inpainted"
    ) as folder:
        progress = EncodeProgress(preset, quiet)
        write_inpainted(file_input, options, open_checked, folder=folder, observer=progress)
