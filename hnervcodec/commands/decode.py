"""`hnv decode` and `hnv verify`: both decode frames, one writes them, one only checks them."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import click

from hnervcodec.commands.files import check_files, naming_file, open_decoder, open_sink
from hnervcodec.commands.options import (
    ARITHMETIC,
    DECODE_DEVICE,
    FPS,
    FRAMES,
    MAX_LEVEL,
    OVERWRITE,
    QUIET,
    SLOW_MOTION,
    THREADS,
)
from hnervcodec.errors import FileError, UsageError
from hnervcodec.media.output_formats import FORMATS, format_of

if TYPE_CHECKING:
    from hnervcodec.bitstream.headers import VideoHeader
    from hnervcodec.decoding.decoder import Decoder
    from hnervcodec.decoding.selection import Selection
    from hnervcodec.media.presentation import Presentation


@click.command(
    short_help="Write frames of a .hnv file in another format.",
    epilog="See also: hnv help pipes, random-access, exactness.",
)
@click.argument("source", metavar="IN", type=click.Path())
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- ENCODER OPTIONS]")
@click.option(
    "-o",
    "--output",
    default="-",
    metavar="OUT",
    type=click.Path(),
    help="A file, a pattern such as frames/%05d.png, or - for a pipe (the default).",
)
@FRAMES
@FPS
@SLOW_MOTION
@click.option(
    "--format",
    "name",
    type=click.Choice(FORMATS),
    help="Default: by OUT's name; y4m on a pipe.",
)
@click.option("--recover", is_flag=True, help="Decode what is intact of a damaged file (exit 3).")
@MAX_LEVEL
@ARITHMETIC
@DECODE_DEVICE
@THREADS
@OVERWRITE
@QUIET
def decode(
    source: str,
    words: tuple[str, ...],
    output: str,
    selection: str | None,
    fps: Fraction | None,
    slow_motion: Fraction,
    name: str | None,
    recover: bool,
    max_level: int | None,
    arithmetic: str,
    device: str,
    threads: int | None,
    yes: bool,
    no: bool,
    quiet: bool,
) -> None:
    """Reconstruct frames of the .hnv file IN, each checked against its checksum.

    Without --frames the whole file is checked first, and refused if any of it is damaged; with
    --frames only what these frames need is read. --recover takes what is intact.

    The name of OUT says what is written: .y4m, .yuv, .npy (RGB [T, H, W, 3]), .framemd5, .png,
    .mp4 or .mov (H.264), .mkv (FFV1, lossless), .webm (AV1) or .gif. For the last five, options of
    the encoder may follow --, in ffmpeg's words.

    With --fps or --slow-motion the network also makes frames at moments that were never coded,
    from the embeddings of the two frames around them: the same samples on every machine, but no
    checksum covers them. Between two segments the nearer frame is repeated. --frames then counts
    what comes out.

    \b
    hnv decode x.hnv -o - | ffmpeg -i - x.mp4      Y4M on a pipe
    hnv decode x.hnv --frames 10-20 -o part.mkv    lossless FFV1 of eleven frames
    hnv decode x.hnv --format framemd5 -o -        a line "INDEX, MD5" per frame
    hnv decode x.hnv --slow-motion 4 -o slow.mp4   three made frames after each coded one
    hnv decode x.hnv -o x.webm                     AV1; .gif, .npy, .png: by the name
    hnv decode x.hnv -o x.mp4 -- -c:v libx265 -crf 18 -preset slow
    """
    if words and not words[0].startswith("-"):
        raise UsageError(f"{words[0]!r} is one argument too many: OUT follows -o")
    with (
        naming_file(source),
        open_decoder(source, recover, max_level, arithmetic, device, threads) as decoder,
    ):
        from hnervcodec.decoding.selection import Selection, gaps, parse_frames, retimed

        if not selection and not recover:
            decoder.reader.check()  # the file is read as a whole

        name = name or ("y4m" if output == "-" else format_of(output))
        header, positions = retimed(decoder.video, fps, slow_motion, decoder.times)
        count = len(positions)
        asked = parse_frames(selection, count) if selection else Selection([range(count)])
        intact = decoder.intact(positions)
        wanted, lost = asked.within(intact), asked.within(gaps(intact, count))
        if not wanted:
            raise FileError("none of the selected frames is intact")
        check_files(source, output, name, wanted, yes, no)
        start = time.monotonic()
        is_retimed, is_as_long = fps is not None or slow_motion != 1, slow_motion == 1
        shown, notes = presented(decoder, header, wanted, is_retimed, is_as_long)
        header = replace(header, frame_count=len(wanted))
        with open_sink(output, name, header, shown, words) as sink:
            for note in [] if quiet else [*notes, *sink.notes]:
                click.echo(f"note: {note}", err=True)
            decoded = decoder.frames([positions[n] for n in wanted])
            for done, (index, (_, planes)) in enumerate(zip(wanted, decoded, strict=True), 1):
                sink.write(index, planes)
                if not quiet and sys.stderr.isatty() and (done % 10 == 0 or done == len(wanted)):
                    rate = done / (time.monotonic() - start)
                    click.echo(
                        f"\r\x1b[K{done}/{len(wanted)} frames  {rate:.1f} frames/s",
                        err=True,
                        nl=done == len(wanted),
                    )
        if decoder.reader.damage:
            missing = f"; frames {lost} are missing" if lost else ""
            raise FileError(decoder.reader.damage[0] + missing)


@click.command(
    short_help="Check every checksum of a file and of its decoded frames.",
    epilog="See also: hnv help exactness.",
)
@click.argument("source", metavar="IN", type=click.Path())
@MAX_LEVEL
@ARITHMETIC
@DECODE_DEVICE
@THREADS
@QUIET
def verify(
    source: str,
    max_level: int | None,
    arithmetic: str,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Check every checksum of IN, of its bytes and of every decoded frame.

    Exit code 0 if all hold, 3 with the first that does not. The frames are decoded, so that this
    takes as long as hnv decode; hnv info reads no frames.

    \b
    hnv verify x.hnv
    hnv verify x.hnv --arithmetic float64     by another arithmetic: the same frames
    """
    with (
        naming_file(source),
        open_decoder(source, False, max_level, arithmetic, device, threads) as decoder,
    ):
        decoder.reader.check()
        start = time.monotonic()
        count = sum(1 for _ in decoder.frames(range(len(decoder))))
        rate = count / (time.monotonic() - start)
        paths = "/".join(sorted(set(decoder.arithmetic().values())))
        segments = len(decoder.reader.index)
    if not quiet:
        click.echo(
            f"{source}: {count} frames in {segments} segment{'s' * (segments > 1)} verified "
            f"({rate:.1f} frames/s, {paths} arithmetic)"
        )


def presented(
    decoder: Decoder, header: VideoHeader, wanted: Selection, is_retimed: bool, is_as_long: bool
) -> tuple[Presentation, list[str]]:
    """What goes with the frames `wanted`, and notes of what does not. `is_retimed`: they are not
    shown when they were coded for; `is_as_long`: though all of them take as long."""
    from hnervcodec.media import presentation

    reader, whole = decoder.reader, range(len(decoder))
    if not is_retimed and wanted.is_consecutive:
        return presentation.part(reader, decoder.times, wanted), []
    shown = presentation.constant(header.frame_rate, reader.display)
    if is_as_long and len(wanted) == header.frame_count and not decoder.times.begin:
        coded = presentation.part(reader, decoder.times, whole)
        return replace(shown, streams=coded.streams, packets=coded.packets), []
    notes = ["sound and subtitles are left out, as these frames are not shown in their time"]
    return shown, notes if reader.streams else []
