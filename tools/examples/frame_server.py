#!/usr/bin/env python3
"""Serves frames of a .hnv file to ffmpeg: any range, through any filter, into any format.

    .venv/bin/python tools/examples/frame_server.py [FILE.hnv FIRST LAST OUT]

Without arguments it encodes a few frames of tests/data/bunny.mp4 first, and has ffmpeg make a
picture of four of them side by side. Needs ffmpeg, or pip install imageio-ffmpeg.
"""

import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from hnervcodec import Decoder, encode
from hnervcodec.media.sinks import Y4mSink

EXCERPT = Path(__file__).resolve().parents[2] / "tests/data/bunny.mp4"


def ffmpeg() -> str:
    found = shutil.which("ffmpeg")
    if found:
        return found
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def serve(file: str, first: int, last: int, *arguments: str) -> None:
    """Pipes frames first..last into ffmpeg with these arguments after its input."""
    command = [ffmpeg(), "-v", "error", "-y", "-i", "-", *arguments]
    pipe = subprocess.PIPE
    with Decoder(file) as decoder, subprocess.Popen(command, stdin=pipe, bufsize=0) as process:
        sink = Y4mSink(cast(BinaryIO, process.stdin), decoder.video)
        with suppress(BrokenPipeError):  # ffmpeg has enough, or says what is wrong
            for index, planes in decoder.frames(range(first, last + 1)):
                sink.write(index, planes)
            sink.close()
    if process.returncode:
        sys.exit(f"ffmpeg failed with exit code {process.returncode}")


if __name__ == "__main__":
    if sys.argv[1:]:
        file, first, last, out = sys.argv[1:]
        serve(file, int(first), int(last), out)
    else:
        out = "frames.png"
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/bunny.hnv"
            encode(EXCERPT, path, bpp=0.3, preset="ultrafast", limit=9, segment=3)
            serve(path, 5, 8, "-vf", "scale=160:-2,tile=4x1", "-frames:v", "1", out)
    print(f"{out}: {Path(out).stat().st_size:,} bytes")
