"""Filters of libavfilter that measure frames: ssim and scdet."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from hnervcodec.bitstream.headers import UNSPECIFIED, VideoHeader
from hnervcodec.media.frames import pixel_format, to_frame
from hnervcodec.planes import Planes

SSIM_LEAST = 8  # samples: the side of its window


class FrameComparison:
    """SSIM of pairs of frames by libavfilter's ssim, so that the numbers are ffmpeg's.

    Call it with the reference's planes and the distorted ones; frames of one header."""

    def __init__(self, header: VideoHeader):
        # RGB is compared plane by plane like any other three.
        self._header = replace(header, matrix_coefficients=UNSPECIFIED)
        self._count = 0
        self._graph = av.filter.Graph()
        form = VideoFormat(pixel_format(header.chroma_format, header.bit_depth))
        self._sources = [
            self._graph.add_buffer(
                width=header.width, height=header.height, time_base=Fraction(1, 25), format=form
            )
            for _ in range(2)
        ]
        ssim, sink = (self._graph.add(name) for name in ("ssim", "buffersink"))
        for n, source in enumerate(self._sources):
            source.link_to(ssim, 0, n)
        ssim.link_to(sink)
        self._graph.configure()

    def __call__(self, reference: Planes, distorted: Planes) -> dict[str, float]:
        """SSIM (at most 1) by plane: Y, U and V where there are such planes, and All.

        A plane smaller than the filter's window, which takes it for 0, has none, and neither has
        All then.
        """
        for source, planes in zip(self._sources, (distorted, reference), strict=True):
            frame = to_frame(self._header, planes)
            frame.pts, frame.time_base = self._count, Fraction(1, 25)
            source.push(frame)
        self._count += 1
        found = self._graph.pull().metadata
        prefix = "lavfi.ssim."
        by_plane = {
            key.removeprefix(prefix): float(value)
            for key, value in found.items()
            if key.startswith(prefix)
        }
        too_small = {
            name
            for name, plane in zip("YUV", reference, strict=False)
            if min(plane.shape) < SSIM_LEAST
        }
        for name in too_small | ({"All"} if too_small else set()):
            by_plane.pop(name, None)
        return by_plane


class SceneDetector:
    """Scores how little each frame has to do with the one before it, 0..100, as libavfilter's scdet
    does by luma. Call it with the planes of each frame in turn; the first one's score is 0.

    difference: of the last frame from the one before it, the mean of luma's, in per cent of its
    range; 0 for the first one.
    """

    difference = 0.0

    def __init__(self, header: VideoHeader):
        self._shift = header.bit_depth - 8
        self._step = -(-max(header.width, header.height) // 640)  # of the samples looked at
        size = -(-header.width // self._step), -(-header.height // self._step)
        # scdet's vectors reach beyond a last column that does not fill them.
        self._size = size = -(-size[0] // 64) * 64, max(size[1], 16)
        self._count = 0
        self._graph = av.filter.Graph()
        chain = [
            self._graph.add_buffer(
                width=size[0], height=size[1], time_base=Fraction(1, 25), format=VideoFormat("gray")
            ),
            self._graph.add("scdet", "threshold=100"),
            self._graph.add("buffersink"),
        ]
        for one, other in pairwise(chain):
            one.link_to(other)
        self._graph.configure()

    def __call__(self, planes: Planes) -> float:
        """The score of the next frame."""
        luma = (planes[0][:: self._step, :: self._step] >> self._shift).astype(np.uint8)
        missing = self._size[1] - luma.shape[0], self._size[0] - luma.shape[1]
        luma = np.pad(luma, ((0, missing[0]), (0, missing[1])), mode="edge")
        frame = VideoFrame(*self._size, "gray")
        rows = np.frombuffer(memoryview(frame.planes[0]), np.uint8)
        rows.reshape(-1, frame.planes[0].line_size)[: self._size[1], : self._size[0]] = luma
        frame.pts, frame.time_base = self._count, Fraction(1, 25)
        self._count += 1
        self._graph.push(frame)
        found = self._graph.pull().metadata
        self.difference = float(found.get("lavfi.scd.mafd", "0"))
        return float(found.get("lavfi.scd.score", "0"))
