"""`Synthesis` makes frames of embeddings: the normative integer network (spec section "Synthesis").

Of the ways to compute it, `native` (C) and those of `torch_kernels`, the fastest that this machine
has is taken; all of them give the same bits. torch is loaded only where it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property

import numpy as np

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.segment import QuantizedSegment
from hnervcodec.errors import UsageError
from hnervcodec.synthesis import native
from hnervcodec.system.devices import processors, use_threads

PATHS = ("native", "int8", "float32", "float64")


class Synthesis:
    """A segment's network, ready to run.

    path: "auto", or one of `PATHS` to force it (what cannot use it exactly falls back to the next).
    device: any torch device; other than the CPU, torch computes.
    threads: of the processor; None: all that this process may use. For torch this is its setting
    for the whole process, left as it is with None.
    The samples never depend on any of these.
    """

    def __init__(
        self,
        segment: QuantizedSegment,
        video: VideoHeader,
        *,
        path: str = "auto",
        device: str = "cpu",
        threads: int | None = None,
    ):
        if path not in ("auto", *PATHS):
            raise UsageError(f"unknown arithmetic path {path!r}: choose from {', '.join(PATHS)}")
        self._segment = segment
        self._native: native.Network | None = None
        if path in ("auto", "native"):
            if device == "cpu":
                self._native = native.network(segment, video.bit_depth, threads or processors())
            path = "auto"
        if self._native is None:
            from hnervcodec.synthesis import torch_kernels

            if threads:
                use_threads(threads)
            self._kernels = torch_kernels.Network(segment, video.bit_depth, path, device)

    @property
    def paths(self) -> dict[str, str]:
        """The arithmetic path each layer uses."""
        if self._native:
            return {spec.name: "native" for spec in self._segment.specs}
        return self._kernels.paths

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the network holds, about: without what torch's libraries pack."""
        segment = self._segment
        levels = segment.embedding.nbytes + sum(
            layer.weight.nbytes + layer.bias.nbytes for layer in segment.layers
        )
        return levels + (self._native.nbytes if self._native else levels)

    @cached_property
    def batch_size(self) -> int:
        """Frames per forward pass that keep the largest layer's values near 16 MiB."""
        largest = max(spec.features for spec in self._segment.specs)
        return max(1, min(8, (1 << 22) // largest))

    def packed(self, positions: Sequence[int | Fraction]) -> np.ndarray:
        """Packed samples [B, channels, h, w] of the segment's frames and, at fractions, of moments
        between them; uint8, or uint16 above 8 bits."""
        return (self._native or self._kernels).run(self._segment.embeddings_at(positions))

    def batches(self, positions: Sequence[int | Fraction]) -> Iterator[np.ndarray]:
        """`packed` for any number of them, a bounded batch at a time."""
        for start in range(0, len(positions), self.batch_size):
            yield self.packed(positions[start : start + self.batch_size])

    def each(
        self, positions: Sequence[int | Fraction], take: Callable[[int, np.ndarray], None]
    ) -> None:
        """Calls take(n, packed samples [channels, h, w]) for each of any number of positions, n
        being its place among them: in any order, and from several threads at once."""
        if self._native:
            self._native.each(self._segment.embeddings_at(positions), take)
            return
        samples = (frame for batch in self.batches(positions) for frame in batch)
        for n, frame in enumerate(samples):
            take(n, frame)
