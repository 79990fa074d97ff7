"""What the fits of a video's segments begin from."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hnervcodec.fitting.start_weights import StartWeights


@dataclass(frozen=True)
class SharedStart:
    """What `start_fit.shared_start` has found out for all segments of a video.

    weights: of the networks that their fits begin with.
    bits_per_pixel: that a typical segment is expected to take.
    """

    weights: StartWeights
    bits_per_pixel: float

    def to_bytes(self) -> bytes:
        """As the job folder keeps it and other processes are sent it: a line of JSON, then the
        networks."""
        return json.dumps(self.bits_per_pixel).encode() + b"\n" + self.weights.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> SharedStart:
        """Inverse of `to_bytes`; ValueError if it is something else."""
        bits_per_pixel, _, weights = data.partition(b"\n")
        return cls(StartWeights.from_bytes(weights), float(json.loads(bits_per_pixel)))
