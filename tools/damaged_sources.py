"""Damaged sources: what we read of them, beside what ffmpeg does (`tools/sources --damaged N`)."""

from __future__ import annotations

import hashlib
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from hnervcodec.errors import HnervError
from hnervcodec.media.source import VideoSource
from hnervcodec.planes import plane_bytes

FRAMES = 48
CODECS = {
    "H.264": ["-c:v", "libx264", "-preset", "ultrafast", "-g", "12", "-bf", "2"],
    "HEVC": ["-c:v", "libx265", "-preset", "ultrafast", "-g", "12", "-x265-params",
             "log-level=none"],
    "MJPEG": ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"],
    "FFV1": ["-c:v", "ffv1", "-level", "3", "-slicecrc", "1", "-g", "1"],
}  # fmt: skip
CARRIERS = {
    "ts": ("H.264", "HEVC"),
    "mkv": ("H.264", "HEVC", "MJPEG", "FFV1"),
    "avi": ("H.264", "MJPEG", "FFV1"),
    "mp4": ("H.264", "HEVC", "MJPEG", "FFV1"),
}


@dataclass(frozen=True)
class Outcome:
    """One damaged file.

    damages: how many places. whole, theirs, ours: frames in the file as it was, and out of the
    damaged one by ffmpeg and by us. altered: how many of ours are none of the original's. told:
    what our note says, "" if there is none. counted: how many lost frames it says; None where it
    says that the file is broken, or refuses it.
    """

    kind: str
    number: int
    damages: int
    whole: int
    theirs: int
    ours: int
    altered: int
    told: str
    counted: int | None

    @property
    def fault(self) -> str:
        """What is wrong with how we read it, or ""."""
        if self.ours < self.theirs - self.damages:
            return f"{self.ours} frames, ffmpeg has {self.theirs}"
        lost = self.whole - self.ours
        if self.counted is not None and self.counted < lost:
            return f"{lost} frames lost, {self.counted} of them told"
        return ""


def make(folder: Path, carrier: str, codec: str, frames: int = FRAMES) -> Path:
    path = folder / f"{codec}.{carrier}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i"]
    command += [f"testsrc2=s=96x64:r=25:d={frames / 25}", *CODECS[codec], "-strict", "-2"]
    subprocess.run([*command, "-threads", "1", str(path)], check=True)
    return path


def damage(data: bytes, rng: random.Random, carrier: str) -> tuple[bytes, int]:
    """A copy of a file that was damaged in one to three places of its body, and their number."""
    spoilt, count = bytearray(data), rng.randint(1, 3)
    for _ in range(count):
        at = rng.randrange(len(spoilt) // 10, len(spoilt) - 400)
        kind, size = rng.choice(("flip", "zero", "noise", "cut")), rng.randint(1, 300)
        if kind == "flip":
            spoilt[at] ^= 1 << rng.randrange(8)
        elif kind == "cut" and carrier == "ts":  # as packets are lost on their way
            del spoilt[at // 188 * 188 : (at // 188 + 1 + size // 100) * 188]
        elif kind == "noise":
            spoilt[at : at + size] = rng.randbytes(size)
        else:
            spoilt[at : at + size] = bytes(size)
    return bytes(spoilt), count


def frames_by_ffmpeg(path: Path) -> int:
    """How many frames ffmpeg decodes, with one thread; 0 where it refuses."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-threads", "1", "-i", str(path)]
    command += ["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framecrc", "-"]
    run = subprocess.run(command, capture_output=True, timeout=60)
    return sum(not line.startswith(b"#") for line in run.stdout.splitlines())


def read(path: Path) -> tuple[list[bytes], str, int | None]:
    """Digests of the frames that we read; what we say of damage, or why we refuse the file; and how
    many frames we say are lost, None where nobody can know."""
    digests: list[bytes] = []
    try:
        with VideoSource(path) as video:
            digests += (hashlib.md5(plane_bytes(planes)).digest() for planes in video.frames())
            damage = video.damage
    except HnervError as error:
        return digests, f"refused: {error}", None
    is_known = not damage.broken and not damage.ended
    return digests, "; ".join(damage.notes()), damage.lost if is_known else None


def outcomes(count: int) -> Iterator[Outcome]:
    """Damages `count` files, the same ones each time."""
    kinds = [(carrier, codec) for carrier, codecs in CARRIERS.items() for codec in codecs]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals = [make(folder, *kind) for kind in kinds]
        known = [read(path)[0] for path in originals]
        for number in range(count):
            rng, n = random.Random(number), number % len(kinds)
            carrier, codec = kinds[n]
            path = folder / f"damaged.{carrier}"
            spoilt, damages = damage(originals[n].read_bytes(), rng, carrier)
            path.write_bytes(spoilt)
            digests, told, counted = read(path)
            altered = (Counter(digests) - Counter(known[n])).total()
            yield Outcome(
                f"{codec} in .{carrier}",
                number,
                damages,
                len(known[n]),
                frames_by_ffmpeg(path),
                len(digests),
                altered,
                told,
                counted,
            )


def table(found: list[Outcome]) -> list[str]:
    """Markdown: a row per kind of file, then one per fault."""
    lines = [
        "| source | files | damaged places | frames | out of ffmpeg | read here | altered | "
        "files told of | faults |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(outcome.kind for outcome in found):
        mine = [outcome for outcome in found if outcome.kind == kind]
        sums = [
            sum(getattr(outcome, name) for outcome in mine)
            for name in ("damages", "whole", "theirs", "ours", "altered")
        ]
        told = sum(bool(outcome.told) for outcome in mine)
        faults = sum(bool(outcome.fault) for outcome in mine)
        cells = [kind, len(mine), *sums, told, faults]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [f"- number {o.number}, {o.kind}: {o.fault}" for o in found if o.fault]
    return lines
