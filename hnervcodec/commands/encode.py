"""`hnv encode`: fits networks to a video and writes the `.hnv` file."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import click

from hnervcodec.commands.files import check_overwrite, is_hnv_file, standard_output
from hnervcodec.commands.many import check_folder, encode_many, is_many
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
    Amount,
    SegmentFrames,
    Share,
    Timestamp,
)
from hnervcodec.commands.progress import EncodeProgress, print_prediction
from hnervcodec.encoding.defaults import QUALITY, SCENECUT, SEGMENT_FRAMES
from hnervcodec.errors import UsageError


@click.command(
    short_help="Fit a network to a video and write it as a .hnv file.",
    epilog="See also: hnv help rates, presets, segments, many, machines, masks.",
)
@click.argument("sources", metavar="IN...", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(),
    help="The .hnv file; - for a pipe; a folder for several INs. Default: in.hnv beside in.mp4.",
)
@click.option("--bpp", type=click.FloatRange(0, min_open=True), help="Bits per pixel of the video.")
@click.option("--bitrate", type=Amount(), help="Bits per second of the video: 500k, 1.5M.")
@click.option("--size", type=Amount(), help="Bytes of the whole file: 300k, 1M.")
@click.option(
    "--psnr",
    type=click.FloatRange(10, 60),
    help="Instead of a size: this PSNR in dB over all samples, within a few tenths.",
)
@click.option(
    "--quality",
    type=click.FloatRange(10, 60),
    help="Instead of a size: constant quality, about 30 (poor) to 45; 6 more: twice the bytes. "
    f"Default: {QUALITY:g}, if none of these is given.",
)
@click.option(
    "--denoise",
    is_flag=True,
    help="Instead of a size: as many bytes as best tell the video from its noise (several fits).",
)
@PRESET
@click.option(
    "--tune",
    type=click.Choice(("balanced", "psnr", "ssim")),
    default="balanced",
    show_default=True,
    help="What to be good at: squared error, the structure that MS-SSIM compares, or both.",
)
@click.option(
    "--segment",
    type=SegmentFrames(),
    metavar="N|auto",
    default=None,
    show_default="auto",
    help=f"Frames per network, about; each segment decodes on its own. auto: {SEGMENT_FRAMES}, or "
    "more where the camera stands still.",
)
@click.option(
    "--scenecut",
    type=click.FloatRange(0, 100),
    default=SCENECUT,
    show_default=True,
    help="A change of scene of at least this score begins a segment where that leaves none "
    "shorter than half of --segment; 0: none does.",
)
@click.option("--ss", "start", type=Timestamp(), help="Where to begin: seconds, or HH:MM:SS.mmm.")
@click.option("--to", "stop", type=Timestamp(), help="Where to end, in the same time.")
@click.option("--skip", type=click.IntRange(0), default=0, help="Frames to leave out at the start.")
@click.option("--limit", type=click.IntRange(1), help="Frames to encode at most.")
@click.option(
    "--every",
    type=click.IntRange(1, 100),
    default=1,
    help="Code each N-th frame only: hnv decode --fps makes the others.",
    metavar="N",
)
@click.option(
    "--audio",
    type=click.Choice(("copy", "none")),
    default="copy",
    show_default=True,
    help="Sound and subtitles: carried as they are, or left out.",
)
@STREAM
@STRICT
@click.option(
    "--mask",
    metavar="MASK",
    type=click.Path(),
    help="What is not to be resembled: a picture or a video, white where masked, or boxes in JSON.",
)
@click.option(
    "--prune",
    type=click.FloatRange(0, 0.9),
    default=0.0,
    help="Share of the weights to set to zero, the rest retrained (0.1: the paper's).",
)
@SEED
@RESUME
@FIT_DEVICE
@THREADS
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    help="Fit so many segments at a time, each in a process of its own.",
)
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Fit them on a Dask cluster (tcp://host:8786), whose workers see IN under its name; it is "
    "trusted with this machine: see hnv help machines.",
)
@click.option(
    "--segments",
    "share",
    type=Share(),
    help="Only the I-th of N shares of the segments; hnv join puts the N files together.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be fitted, and how long.")
@OVERWRITE
@QUIET
def encode(
    sources: tuple[str, ...],
    output: str | None,
    bpp: float | None,
    bitrate: float | None,
    size: float | None,
    psnr: float | None,
    quality: float | None,
    denoise: bool,
    preset: str,
    tune: str,
    segment: int | None,
    scenecut: float,
    start: Fraction | None,
    stop: Fraction | None,
    skip: int,
    limit: int | None,
    every: int,
    audio: str,
    stream: int | None,
    strict: bool,
    mask: str | None,
    prune: float,
    seed: int,
    resume: bool,
    device: str,
    threads: int | None,
    workers: int | None,
    cluster: str | None,
    share: tuple[int, int] | None,
    dry_run: bool,
    yes: bool,
    no: bool,
    quiet: bool,
) -> None:
    """Fit a network to the video IN and write it to OUT.

    IN is anything ffmpeg's libraries open, or - for Y4M on standard input. Choose the size of
    the result by one of --bpp, --bitrate and --size: it comes out just below that; sound and
    subtitles come on top of the first two. Or choose its quality by --psnr or --quality: a few
    short trial fits find out what that takes. With none of them the quality is constant.

    Several INs, a folder or a 'pattern' become a file each in the folder OUT: see hnv help many.

    With --denoise the fits hide some samples from themselves, and the size is the one at which
    they predict these best: what cannot be predicted is noise. PSNRs are to the noisy source. Of
    noise that is hardly seen, this removes less than it loses of the picture.

    With --mask the network need not resemble what is masked, and fills it from what the rest of
    the frame and the other frames show; hnv inpaint puts that into the source. A video of masks
    has a frame for each of the source's. In JSON, boxes are a list of {"x": 0, "y": 0, "width": 50,
    "height": 50, "first": 0, "last": 9}: luma samples, and source frames, which may be left out.

    \b
    hnv encode in.mp4                             to in.hnv, at the default quality
    hnv encode in.mp4 -o out.hnv --bpp 0.05 --preset slow
    hnv encode in.mp4 -o out.hnv --size 1M --preset fast
    hnv encode in.mp4 -o out.hnv --psnr 36
    hnv encode in.mp4 --bpp 0.05 --dry-run        how long that would take
    hnv encode clips/ -o out/                     all videos in a folder
    ffmpeg -i in.mov -f yuv4mpegpipe - | hnv encode - -o out.hnv --bitrate 500k
    """
    asked_rates = (bpp, bitrate, size, psnr, quality, denoise or None)
    is_default_quality = all(choice is None for choice in asked_rates)
    if is_default_quality:
        quality = QUALITY
    many = is_many(sources, output)
    source = sources[0]
    is_default_output = output is None and not dry_run and not many
    if is_default_output:
        output = output_beside(source)
    if many and not dry_run:
        check_folder(output)
    elif is_hnv_file(source):
        raise UsageError(f"{source} is a .hnv file already: hnv join puts such files together")
    if (is_default_quality or is_default_output) and not quiet:
        named = " ".join(sources[:3]) + " ..." * (len(sources) > 3)
        click.echo(first_line(named, output, is_default_quality), err=True)

    from hnervcodec.encoding import encoder, session  # which takes seconds, as they load torch
    from hnervcodec.encoding.dispatch import Dispatch
    from hnervcodec.encoding.file_input import FileInput, Selection
    from hnervcodec.encoding.rate import Rate

    options = session.EncodeOptions(
        rate=Rate(
            bpp=bpp,
            bitrate=bitrate,
            size=size,
            psnr=psnr,
            quality=quality,
            denoise=denoise or None,
        ),
        preset=preset,
        tune=tune,
        segment=segment,
        scenecut=scenecut,
        prune=prune,
        seed=seed,
        device=device,
        dispatch=Dispatch(workers=workers, cluster=cluster, threads=threads, share=share),
    )
    if dry_run and resume:
        raise UsageError("--resume works from a file to a file, not with --dry-run")
    if (start is not None or stop is not None) and (skip or limit):
        raise UsageError("choose the part either by --ss and --to, or by --skip and --limit")
    of_each = FileInput("", skip, limit, every, mask, audio == "copy", stream=stream, strict=strict)
    selection = Selection(of_each, start, stop)
    if many:
        encode_many(
            sources,
            output,
            options,
            selection,
            resume=resume,
            dry_run=dry_run,
            yes=yes,
            quiet=quiet,
        )
        return
    file_input = selection.of(source)
    progress = EncodeProgress(preset, quiet, elsewhere=options.dispatch.is_elsewhere)
    if dry_run:
        is_guess = psnr is not None or quality is not None or denoise
        print_prediction(session.predict(file_input, options, observer=progress), is_guess)
        return
    assert output is not None
    if not yes and session.is_finished(file_input, output, options):
        if not quiet:
            click.echo(f"{output} is finished already; -y makes it anew", err=True)
        return
    check_overwrite(source, output, yes, no)
    result = session.encode(
        file_input,
        standard_output() if output == "-" else output,
        options,
        resume=resume,
        discard=yes,
        observer=progress,
    )
    progress.done(output, result)
    is_file = os.path.isfile(output) and file_input.can_be_reread
    if every > 1 and not quiet and result.frames > 1 and share is None and is_file:
        error = encoder.error_of_frames_between(output, file_input)
        click.echo(f"made frames: PSNR {error.average:.2f} dB", err=True)
    if psnr is not None and result.error.average < psnr - 0.3 and not quiet:
        click.echo(
            f"note: {psnr:g} dB is out of reach of preset {preset} here; a slower one comes nearer",
            err=True,
        )


def output_beside(source: str) -> str:
    """The default OUT: in.hnv for in.mp4, in the same folder."""
    if source == "-" or "://" in source or "%" in source:  # which are not names of one file
        raise UsageError("-o OUT is missing: where the .hnv file is to go, or - for a pipe")
    return str(Path(source).with_suffix(".hnv"))


def first_line(source: str, output: str | None, is_default_quality: bool) -> str:
    """Says what was chosen for the user, and how to choose otherwise."""
    to = f" -> {output}" if output else ""
    if not is_default_quality:
        return f"{source}{to}"
    return f"{source}{to}, at --quality {QUALITY:g} (hnv help rates: other qualities, or a size)"
