"""`hnv play`: pipes decoded frames into a video player."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from typing import IO, TYPE_CHECKING, BinaryIO, cast

import click

from hnervcodec.commands.files import naming_file, open_decoder
from hnervcodec.commands.options import (
    ARITHMETIC,
    DECODE_DEVICE,
    FPS,
    FRAMES,
    MAX_LEVEL,
    QUIET,
    SLOW_MOTION,
    THREADS,
)
from hnervcodec.errors import OutputError

if TYPE_CHECKING:
    from hnervcodec.bitstream.headers import VideoHeader
    from hnervcodec.planes import Planes

# Both read Y4M on standard input; by preference.
PLAYERS = {
    "ffplay": ("-v", "error", "-autoexit", "-window_title", "{title}", "-f", "yuv4mpegpipe",
               "-i", "pipe:0"),
    "mpv": ("--msg-level=all=error", "--title={title}", "--demuxer-lavf-format=yuv4mpegpipe", "-"),
}  # fmt: skip


@click.command(
    short_help="Show a .hnv file in a window of ffplay's or mpv's.",
    epilog="See also: hnv help pipes.",
)
@click.argument("source", metavar="IN", type=click.Path())
@FRAMES
@FPS
@SLOW_MOTION
@click.option(
    "--player", type=click.Choice(tuple(PLAYERS)), help="Default: the first that is installed."
)
@MAX_LEVEL
@ARITHMETIC
@DECODE_DEVICE
@THREADS
@QUIET
def play(
    source: str,
    selection: str | None,
    fps: Fraction | None,
    slow_motion: Fraction,
    player: str | None,
    max_level: int | None,
    arithmetic: str,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Show the .hnv file IN in a window of ffplay's or mpv's.

    Frames are decoded while they play, without sound. Closing the window ends the command, with
    exit code 0; if the player fails, its last words are repeated and the exit code is 7.

    \b
    hnv play x.hnv
    hnv play x.hnv --slow-motion 4
    hnv play x.hnv --frames 100-200 --player mpv
    """
    program = found_player(player)
    with (
        naming_file(source),
        open_decoder(source, False, max_level, arithmetic, device, threads) as decoder,
    ):
        from hnervcodec.decoding.selection import parse_frames, retimed

        header, positions = retimed(decoder.video, fps, slow_motion, decoder.times)
        if selection:
            positions = [positions[n] for n in parse_frames(selection, len(positions))]
        if not quiet:
            click.echo(f"playing with {program}", err=True)
        command = [program, *(word.format(title=source) for word in PLAYERS[program])]
        shown = (planes for _, planes in decoder.frames(positions))
        with tempfile.TemporaryFile() as log:
            code = show(command, header, shown, log)
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()
    if code:
        raise OutputError(f"{program} failed: {said[-1] if said else f'exit code {code}'}")


def show(command: list[str], header: VideoHeader, frames: Iterable[Planes], log: IO[bytes]) -> int:
    """Pipes the frames into a player, until it closes; returns its exit code."""
    from hnervcodec.media.sinks import Y4mSink

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log) as process:
        pipe = cast(BinaryIO, process.stdin)
        try:
            sink = Y4mSink(pipe, header)
            with suppress(BrokenPipeError):  # the window was closed
                for index, planes in enumerate(frames):
                    sink.write(index, planes)
                sink.close()
        except BaseException:
            process.terminate()
            raise
        finally:
            with suppress(BrokenPipeError):
                pipe.close()
        return process.wait()


def found_player(asked: str | None) -> str:
    """The name of an installed player."""
    for name in [asked] if asked else PLAYERS:
        if shutil.which(name):
            return name
    raise OutputError(
        f"{asked or 'neither ffplay nor mpv'} is {'not ' if asked else ''}installed: "
        "apt install ffmpeg, or brew install ffmpeg, brings ffplay; apt or brew install mpv. "
        "For other players: hnv decode IN -o x.mp4"
    )
