"""The short fit that all segments of a video begin from: to frames drawn evenly from all of it, so
that no segment waits for another one and any of them can be fitted anywhere."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hnervcodec.encoding import job_folder
from hnervcodec.encoding.encoder import MaskedFrame, Report, segment_request, with_masks
from hnervcodec.encoding.segment_encoder import budget_for_quality
from hnervcodec.encoding.shared_start import SharedStart
from hnervcodec.errors import SourceError
from hnervcodec.fitting.fit import fit_start
from hnervcodec.fitting.progress import Phase, Progress

if TYPE_CHECKING:
    from hnervcodec.encoding.file_input import FileInput
    from hnervcodec.encoding.memory_input import MemoryInput
    from hnervcodec.encoding.plan import Plan

FILE_NAME = "start.weights"  # in the job folder
CHECKPOINT = "start.fit"


def shared_start(
    plan: Plan, source: FileInput | MemoryInput, folder: Path | None, report: Report
) -> SharedStart | None:
    """The start of all segments of `source`, from the job folder if it was made before; None where
    the plan has none. report: hears of it as of the first segment. SourceError if the source is
    another one than the plan's."""
    if not plan.shares_start:
        return None

    def make() -> bytes:
        return _made(plan, _drawn(plan, source, report), folder, report).to_bytes()

    return job_folder.read_or_make(folder, FILE_NAME, make, SharedStart.from_bytes)


def _drawn(plan: Plan, source: FileInput | MemoryInput, report: Report) -> list[MaskedFrame]:
    """As many frames as a typical segment has, from all of the video at even distances."""
    total = sum(part.frame_count for part in plan.parts)
    count = plan.typical_part.frame_count
    wanted = {(2 * n + 1) * total // (2 * count) for n in range(count)}
    frames: list[MaskedFrame] = []
    begun = time.monotonic()
    with source.open() as opened:
        if opened.header != plan.video:
            raise SourceError("the source is another video than the one that was planned")
        seen = with_masks(opened.frames(), source.masks(plan.video))
        for n, frame in enumerate(seen):
            if n in wanted:
                frames.append(frame)
            seconds = time.monotonic() - begun
            report(0, Progress(Phase.READ, min(n + 1, total), total, seconds, 0.0, None))
            if len(frames) == count:
                return frames
    raise SourceError("the source has become shorter since it was scanned")


def _made(
    plan: Plan, frames: list[MaskedFrame], folder: Path | None, report: Report
) -> SharedStart:
    def hear(number: int, progress: Progress) -> None:
        report(0, replace(progress, phase=Phase.START))

    request = segment_request(plan, plan.typical_part, frames, None, hear)
    budget = plan.budget(plan.typical_part)
    if budget is None:
        assert plan.settings.aim is not None  # as `shares_start` has checked
        budget = budget_for_quality(request, plan.settings.aim)
    weights = fit_start(
        request.fit_task(budget, plan.start_config),
        checkpoint=folder / CHECKPOINT if folder and folder.is_dir() else None,
        report=request.report,
    )
    return SharedStart(weights, 8 * budget / request.pixels)
