"""The last step of rate control: from a fit that came close to a payload that is right.

A fitted network has learned to live with the rounding to its own steps. Rounding all weights anew
with steps a trifle different costs tenths of a decibel, so where possible only the steps of one
tensor are changed.
"""

from __future__ import annotations

from collections.abc import Callable

from hnervcodec.bitstream import segment
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.segment import QuantizedSegment
from hnervcodec.errors import UsageError
from hnervcodec.fitting.quantization import FittedSegment, quantize

FILL = 0.992  # of the budget: near enough
TENSORS = 4  # how many of the largest are tried
FINEST, COARSEST = 0.5, 3.0  # factors for the steps of one tensor
NEAR = 0.1  # dB above a target that are not worth another rounding
BISECTIONS = 12


class FinalRounding:
    """Rounds a fitted segment so that its payload meets a budget or a PSNR exactly.

    first_frame: the number in the video of the segment's first frame.
    quality: decodes a quantized segment and returns its PSNR in dB.
    """

    def __init__(
        self,
        fitted: FittedSegment,
        video: VideoHeader,
        first_frame: int,
        quality: Callable[[QuantizedSegment], float],
    ):
        self.fitted, self.video, self.first_frame = fitted, video, first_frame
        self.quality = quality

    def quantized(self, coarser: dict[int, float]) -> QuantizedSegment:
        """The segment with the steps of some tensors multiplied, as in `quantize`."""
        return quantize(self.fitted, self.video, self.first_frame, coarser)

    def payload(self, coarser: dict[int, float]) -> bytes:
        """The bytes of that segment."""
        return segment.write(self.quantized(coarser))

    @property
    def tensors(self) -> list[int]:
        """Numbers of all layers and, as -1, of the embeddings: those with the most values first."""
        sizes = {n: weight.size for n, weight in enumerate(self.fitted.weights)}
        sizes[-1] = self.fitted.embedding.size
        return sorted(sizes, key=lambda n: sizes[n], reverse=True)

    def to_budget(self, budget: int) -> bytes:
        """A payload of at most `budget` bytes that leaves little of them unused, unless the
        network has no use for them. UsageError if even the coarsest steps take more."""
        payload = self.payload({})
        if FILL * budget <= len(payload) <= budget:
            return payload
        too_large = len(payload) > budget
        single = [[n] for n in self.tensors[:TENSORS]]
        changes = [
            change for tensors in single if (change := self.scaled(tensors, budget, too_large))
        ]
        if not changes and (change := self.scaled(self.tensors, budget, too_large)):
            changes = [change]
        if changes:
            return self.payload(max(changes, key=lambda c: self.quality(self.quantized(c))))
        if too_large:
            raise UsageError(f"{budget} bytes are too few for this segment: ask for more")
        return payload

    def scaled(self, tensors: list[int], budget: int, too_large: bool) -> dict[int, float] | None:
        """The factor for the steps of `tensors` that fills the budget, if there is one."""
        low, high = (1.0, COARSEST) if too_large else (FINEST, 1.0)
        while too_large and len(tensors) > 1 and high < 1000:
            if len(self.payload(dict.fromkeys(tensors, high))) <= budget:
                break
            low, high = high, 2 * high
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            change = dict.fromkeys(tensors, middle)
            size = len(self.payload(change))
            if FILL * budget <= size <= budget:
                return change
            low, high = (middle, high) if size > budget else (low, middle)
        # Very small payloads come in coarse sizes: too little is better than too much.
        change = dict.fromkeys(tensors, high)
        fits = len(self.payload(change)) <= budget
        return change if too_large and len(tensors) > 1 and fits else None

    def to_psnr(self, target: float) -> bytes:
        """The payload with about the coarsest steps that still reach `target` dB; with the fitted
        ones where those only just do, or do not."""
        if self.quality(self.quantized({})) <= target + NEAR:
            return self.payload({})

        def reached(factor: float) -> float:
            return self.quality(self.quantized(dict.fromkeys(self.tensors, factor)))

        low, high = 1.0, 2.0
        while high < 256 and reached(high) >= target:
            low, high = high, 2 * high
        for _ in range(BISECTIONS // 2):
            middle = (low + high) / 2
            low, high = (middle, high) if reached(middle) >= target else (low, middle)
        return self.payload(dict.fromkeys(self.tensors, low) if low > 1 else {})
