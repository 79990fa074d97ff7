"""Frames -> segments -> file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

from hnervcodec.bitstream import container, segment
from hnervcodec.bitstream.architecture import macs_per_frame, weight_count
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.bitstream.side_data import SideData
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.encoding.file_input import FileInput
from hnervcodec.encoding.plan import Part, Plan, Settings, divide, divide_evenly
from hnervcodec.encoding.segment_encoder import (
    EncodedSegment,
    SegmentJob,
    encode_segment,
    first_budget,
    least_budget,
)
from hnervcodec.errors import SourceError
from hnervcodec.fitting.fit import predict_seconds
from hnervcodec.fitting.progress import Progress
from hnervcodec.metrics.psnr import PlaneError
from hnervcodec.planes import Planes

Report = Callable[[int, Progress], None]  # segment number, progress within it
Seen = tuple[Planes, Planes | None]  # a frame and its mask


@dataclass(frozen=True)
class EncodeResult:
    """What an encode made. PSNRs are of the frames as every decoder will reconstruct them; notes
    say what of the source was lost or converted."""

    video: VideoHeader
    error: PlaneError
    bytes: int = 0
    beside: int = 0  # of the bytes: sound, times and the like
    target_bytes: float | None = None  # None for constant quality and for shares of a video
    frames: int = 0
    segments: int = 0
    weights: int = 0
    macs_per_pixel: float = 0.0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def bits_per_pixel(self) -> float:
        """Of the video alone."""
        return 8 * (self.bytes - self.beside) / (self.frames * self.video.width * self.video.height)


def silent(number: int, progress: Progress) -> None:
    """A `Report` that says nothing."""


def encode(
    video: VideoHeader,
    frames: Iterable[Planes],
    file: BinaryIO,
    settings: Settings,
    *,
    masks: Iterable[Planes] | None = None,
    side_data: SideData | None = None,
    folder: Path | None = None,
    report: Report = silent,
) -> EncodeResult:
    """Writes a whole `.hnv` file for `frames` to `file` (a seekable file or a pipe).

    masks: for each frame which of its samples the result need not resemble (see `masks`); they
    count neither for the fit nor for the PSNRs.
    side_data: what goes beside exactly these frames.
    folder: where unfinished work is kept, and taken up again.
    """
    plan = Plan.of(video, settings)
    jobs = segment_jobs(plan, masked(frames, masks), folder, report)
    return assemble(plan, map(encode_segment, jobs), file, side_data)


def segment_jobs(
    plan: Plan,
    frames: Iterable[Seen],
    folder: Path | None,
    report: Report,
    parts: Sequence[Part] | None = None,
) -> Iterator[SegmentJob]:
    """One for each segment of these frames, in order. `parts`: which they are, if not all."""
    parts = parts or plan.parts
    length = plan.settings.segment_frames
    groups = divide(frames, parts) if parts else divide_evenly(frames, length)
    for part, group in groups:
        yield segment_job(plan, part, group, folder, report)


def segment_job(
    plan: Plan, part: Part, group: list[Seen], folder: Path | None, report: Report
) -> SegmentJob:
    masks = [mask for _, mask in group if mask is not None]
    return SegmentJob(
        plan,
        part,
        [planes for planes, _ in group],
        masks or None,
        lambda progress: report(part.number, progress),
        folder,
    )


def masked(frames: Iterable[Planes], masks: Iterable[Planes] | None) -> Iterator[Seen]:
    """Each frame with its mask."""
    return zip(frames, repeat(None) if masks is None else masks, strict=False)


def assemble(
    plan: Plan,
    segments: Iterable[EncodedSegment],
    file: BinaryIO,
    side_data: SideData | None = None,
    first_frame: int = 0,
) -> EncodeResult:
    """Writes the file, segment by segment as they come; they are in order. Some of a plan's
    segments, from `first_frame` on, make a video of their own. `side_data`: of the plan's video."""
    start = time.monotonic()
    writer = container.Writer(file, plan.video, plan.level, side_data.minor if side_data else 0)
    error, count, last = PlaneError(plan.video.max_sample), 0, None
    beside = writer.add(side_data.before_segments()) if side_data else 0
    for last in segments:
        first = writer.frame_count
        writer.segment(segment.moved(last.payload, first), last.frame_count)
        if side_data:
            follows = side_data.of_segment(first_frame + first, last.frame_count, first_frame)
            beside += writer.add(follows)
        error.merge(last.error)
        count += 1
    if last is None:
        raise SourceError("the source holds no frames in the selected range")
    size, frames = writer.finish(), writer.frame_count
    is_whole = count == len(plan.parts or range(count))
    asked = plan.settings.bytes_per_frame
    return EncodeResult(
        plan.video,
        error,
        bytes=size,
        beside=beside,
        target_bytes=asked * frames + beside if asked is not None and is_whole else None,
        frames=frames,
        segments=count,
        weights=last.weights,
        macs_per_pixel=last.macs_per_pixel,
        seconds=time.monotonic() - start,
    )


@dataclass(frozen=True, slots=True)
class Prediction:
    """What `encode` would do."""

    frames: int
    segments: int
    weights: int  # of the first segment's network
    macs_per_pixel: float
    bytes: float  # of the whole file
    seconds: float


def predict(
    video: VideoHeader,
    frames: Iterable[Planes],
    settings: Settings,
    *,
    masks: Iterable[Planes] | None = None,
    report: Report = silent,
) -> Prediction:
    """How large a network `encode` would fit with these arguments and how long that would take on
    this machine, from trials with the first segment of about ten seconds; with an `aim` also from
    the trial fits that `encode` begins with. Without the settings' `lengths` the first segment is
    taken for the whole."""
    plan = Plan.of(video, settings)
    start = time.monotonic()
    job = next(segment_jobs(plan, masked(frames, masks), None, report), None)
    if job is None:
        raise SourceError("the source holds no frames in the selected range")
    count, fits = len(job.frames), 1
    budget = plan.budget(job.part)
    if settings.denoise:
        fits, budget = 3, 2 * least_budget(job)  # as it mostly happens: the second is the best
    elif settings.aim:
        budget = first_budget(job, settings.aim)
    assert budget is not None  # as one of the three is asked for
    trials = time.monotonic() - start
    task = job.task(budget, plan.preset.fit)
    seconds = trials + fits * predict_seconds(task)
    lengths = settings.lengths or (count,)
    specs = video.layers(task.model)
    return Prediction(
        sum(lengths),
        len(lengths),
        weight_count(specs),
        macs_per_frame(specs) / (video.width * video.height),
        sum(lengths) * (settings.bytes_per_frame or budget / count),
        seconds * sum(lengths) / count,
    )


def error_between(path: str | Path, file_input: FileInput) -> PlaneError:
    """What the frames that a decoder makes between the coded ones of `file_input` have for
    distortion."""
    every = file_input.every
    with Decoder(path) as decoder:
        error = PlaneError(decoder.video.max_sample)
        whole = replace(file_input, every=1, limit=(len(decoder) - 1) * every + 1)
        with whole.open() as source:
            seen = masked(source.frames(), whole.masks(source.header))
            for n, (planes, mask) in enumerate(seen):
                if n % every:
                    _, made = next(decoder.frames([Fraction(n, every)]))
                    error.add(planes, made, mask)
    return error
