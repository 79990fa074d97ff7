"""What a running fit reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """The part of a segment's encode that a report comes from."""

    READ = "read"  # the frames that the start is fitted to
    START = "start"  # the short fit that all segments begin from
    TRIAL = "trial"  # short fits that find out what a quality takes
    COARSE = "sketch"  # the network at a fraction of the size
    FLOAT = "fit"  # networks in float
    QUANTIZED = "quantize"  # the quantizers in the loop
    DONE = "done"  # the segment is as the file will hold it

    @property
    def is_before_the_fit(self) -> bool:
        """Whether what it reports of is no share of a segment's fit."""
        return self in (Phase.READ, Phase.START, Phase.TRIAL, Phase.COARSE)


@dataclass(frozen=True, slots=True)
class Progress:
    """One report from a running fit, sent after every optimizer step."""

    phase: Phase
    step: int  # optimizer steps done, 1..steps; frames in `Phase.READ`
    steps: int
    seconds: float  # since the fit began
    psnr: float  # dB, over the samples of the last epoch's worth of batches
    bytes: float | None  # predicted size of the segment, once the quantizers run
    warning: str = ""  # what the user should know now
    attempt: int = 0  # from 1: which of several whole fits this is, 0 where there is only one
