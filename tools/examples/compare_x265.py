#!/usr/bin/env python3
"""Compares a .hnv file with x265 at the same size: PSNRs of both, by hnervcodec's own metrics.

    .venv/bin/python tools/examples/compare_x265.py [SOURCE FILE.hnv]

SOURCE is what FILE.hnv was made from. Without arguments it encodes a few frames of
tests/data/bunny.mp4 first, in seconds, so that x265 wins by far.
"""

import sys
import tempfile
from pathlib import Path

from hnervcodec import Decoder, VideoHeader, encode
from hnervcodec.benchmark import other_codecs
from hnervcodec.media.source import VideoSource
from hnervcodec.metrics.psnr import PlaneError
from hnervcodec.planes import Planes

EXCERPT = Path(__file__).resolve().parents[2] / "tests/data/bunny.mp4"


def report(
    name: str, header: VideoHeader, size: int, frames: list[Planes], decoded: list[Planes]
) -> None:
    error = PlaneError(header.max_sample)
    for reference, distorted in zip(frames, decoded, strict=True):
        error.add(reference, distorted)
    luma, weighted = error.per_plane[0], error.weighted
    print(f"{name:5} {size:9,} bytes  PSNR {luma:.2f} dB of Y, {weighted:.2f} dB at 6:1:1")


def compare(source: str | Path, file: str) -> None:
    with Decoder(file) as decoder:
        header, size = decoder.video, decoder.reader.size
        ours = [planes for _, planes in decoder.frames(range(len(decoder)))]
    with VideoSource(source, limit=len(ours)) as video:
        frames = list(video.frames())
    report("hnv", header, size, frames, ours)
    theirs = other_codecs.code_at("x265", header, frames, size)
    report("x265", header, theirs.bytes, frames, theirs.decoded)


if __name__ == "__main__":
    if sys.argv[1:]:
        compare(*sys.argv[1:])
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/bunny.hnv"
            encode(EXCERPT, path, bpp=0.1, preset="faster", limit=6)
            compare(EXCERPT, path)
