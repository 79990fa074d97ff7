"""VMAF of luma by the libvmaf filter of a program ffmpeg, as PyAV's libraries come without it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.errors import HnervError
from hnervcodec.media.sinks import Y4mSink
from hnervcodec.planes import Planes, plane_shapes

_LOG, _ERRORS = "vmaf.json", "errors.txt"
# Reference and distorted frames come by turns, so that one pipe is enough.
_GRAPH = (
    "split[a][b];[a]select='not(mod(n,2))',setpts=N[reference];[b]select='mod(n,2)',setpts=N[made];"
    f"[made][reference]libvmaf=log_fmt=json:log_path={_LOG}"
)


def find(path: str | None = None) -> str | None:
    """The program ffmpeg in the folders `path`, by default those of PATH, if it has libvmaf."""
    program = shutil.which("ffmpeg", path=path)
    if program is None:
        return None
    command = [program, "-hide_banner", "-filters"]
    listed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    return program if b" libvmaf " in listed.stdout else None


class Vmaf:
    """A running ffmpeg that takes pairs of frames. program: as `find` returns it; video: describes
    both sides."""

    def __init__(self, program: str, video: VideoHeader):
        # The model sees luma alone; one format of neutral chroma serves every video.
        header = replace(video, chroma_format=1)
        _, *chroma = plane_shapes(video.width, video.height, 1)
        dtype = np.uint8 if video.bit_depth == 8 else np.uint16
        self._chroma = [np.full(shape, video.max_sample // 2 + 1, dtype) for shape in chroma]
        self._folder = tempfile.TemporaryDirectory(prefix="hnv-")
        command = [
            program,
            "-v",
            "error",
            "-nostats",
            "-i",
            "-",
            "-lavfi",
            _GRAPH,
            "-f",
            "null",
            "-",
        ]
        with open(Path(self._folder.name) / _ERRORS, "wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=self._folder.name,
            )
        assert self._process.stdin is not None
        self._sink = Y4mSink(self._process.stdin, header)  # type: ignore[arg-type]

    def __enter__(self) -> Vmaf:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def add(self, reference: Planes, distorted: Planes) -> None:
        """Another pair of frames."""
        with suppress(BrokenPipeError):  # why it ended is found out at the end
            for planes in (reference, distorted):
                self._sink.write(0, (planes[0], *self._chroma))

    def scores(self) -> list[float]:
        """VMAF of every pair, 0..100. Ends the program, so that no pairs can follow. HnervError if
        it could not compute them."""
        self._process.communicate()
        folder = Path(self._folder.name)
        try:
            log = json.loads((folder / _LOG).read_text())
            return [frame["metrics"]["vmaf"] for frame in log["frames"]]
        except (OSError, ValueError, KeyError) as error:
            said = (folder / _ERRORS).read_text(errors="replace").strip().split("\n")[0]
            code = self._process.returncode  # negative: a signal; it crashes on very small frames
            reason = said or f"it ended with {code}"
            raise HnervError(f"ffmpeg could not compute VMAF: {reason}") from error
