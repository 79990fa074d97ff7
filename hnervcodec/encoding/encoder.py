"""From frames to a whole `.hnv` file: segments to be fitted, the file they are put into, and what
an encode will take."""

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
    SegmentRequest,
    budget_for_quality,
    encode_segment,
    starting_budget,
    trial_config,
)
from hnervcodec.encoding.shared_start import SharedStart
from hnervcodec.errors import SourceError
from hnervcodec.fitting.fit import measure_seconds
from hnervcodec.fitting.progress import Progress
from hnervcodec.metrics.psnr import PlaneError
from hnervcodec.planes import Planes

Report = Callable[[int, Progress], None]  # segment number, progress within it
MaskedFrame = tuple[Planes, Planes | None]  # a frame and its mask


@dataclass(frozen=True)
class EncodeResult:
    """What an encode made. PSNRs are of the frames as every decoder will reconstruct them; notes
    say what of the source was lost or converted, `damage` which of that because it was damaged."""

    video: VideoHeader
    error: PlaneError
    bytes: int = 0
    side_data_bytes: int = 0  # of the bytes: sound, times and the like
    target_bytes: float | None = None  # None for constant quality and for shares of a video
    frames: int = 0
    segments: int = 0
    weights: int = 0
    macs_per_pixel: float = 0.0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()

    @property
    def bits_per_pixel(self) -> float:
        """Of the video alone."""
        pixels = self.frames * self.video.width * self.video.height
        return 8 * (self.bytes - self.side_data_bytes) / pixels


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
    requests = segment_requests(plan, with_masks(frames, masks), folder, report)
    return write_file(plan, map(encode_segment, requests), file, side_data)


def segment_requests(
    plan: Plan,
    frames: Iterable[MaskedFrame],
    folder: Path | None,
    report: Report,
    parts: Sequence[Part] | None = None,
    start: SharedStart | None = None,
) -> Iterator[SegmentRequest]:
    """A request for each segment of these frames, in order. parts: the segments that the frames are
    of, by default all of the plan. start: as `SegmentRequest` has it."""
    parts = parts or plan.parts
    length = plan.settings.segment_frames
    groups = divide(frames, parts) if parts else divide_evenly(frames, length)
    for part, group in groups:
        yield segment_request(plan, part, group, folder, report, start)


def segment_request(
    plan: Plan,
    part: Part,
    group: list[MaskedFrame],
    folder: Path | None,
    report: Report,
    start: SharedStart | None = None,
) -> SegmentRequest:
    """The request to fit `part`, whose frames and masks are `group`."""
    masks = [mask for _, mask in group if mask is not None]
    return SegmentRequest(
        plan,
        part,
        [planes for planes, _ in group],
        masks or None,
        lambda progress: report(part.number, progress),
        folder,
        start,
    )


def with_masks(frames: Iterable[Planes], masks: Iterable[Planes] | None) -> Iterator[MaskedFrame]:
    """Each frame with its mask, None if there are none."""
    return zip(frames, repeat(None) if masks is None else masks, strict=False)


def write_file(
    plan: Plan,
    segments: Iterable[EncodedSegment],
    file: BinaryIO,
    side_data: SideData | None = None,
    first_frame: int = 0,
) -> EncodeResult:
    """Writes the segments to `file` as they come, and all that a `.hnv` file needs around them.

    segments: in order; all of the plan's, or a share of them, which begins with the plan's frame
    `first_frame` and becomes a video of its own. side_data: of the whole of the plan's video.
    SourceError if there are no segments.
    """
    start = time.monotonic()
    writer = container.Writer(file, plan.video, plan.level, side_data.minor if side_data else 0)
    error, count, last = PlaneError(plan.video.max_sample), 0, None
    side_data_bytes = writer.add(side_data.before_segments()) if side_data else 0
    for last in segments:
        first = writer.frame_count
        writer.segment(segment.with_first_frame(last.payload, first), last.frame_count)
        if side_data:
            follows = side_data.of_segment(first_frame + first, last.frame_count, first_frame)
            side_data_bytes += writer.add(follows)
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
        side_data_bytes=side_data_bytes,
        target_bytes=(asked * frames + side_data_bytes if asked is not None and is_whole else None),
        frames=frames,
        segments=count,
        weights=last.weights,
        macs_per_pixel=last.macs_per_pixel,
        seconds=time.monotonic() - start,
    )


PREDICTED_FRAMES = 16  # that are fitted to see how long it takes
EXPECTED_TRIALS = 2  # of the up to three that find out what a quality takes
SHORT_TRIAL = 4.0  # seconds that one of them may take in a prediction
FIRST_LOOK = 2.0  # seconds that it takes to see whether they are so short
CALIBRATION = 6.0  # seconds of trying a fit's steps, to predict how long it takes


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an encode is expected to make, and how long it is expected to take."""

    frames: int
    segments: int
    weights: int  # of the first segment's network
    macs_per_pixel: float
    bytes: float | None  # of the whole file; None where only long trial fits could tell
    seconds: float  # of one process on this machine


def predict(
    video: VideoHeader,
    frames: Iterable[Planes],
    settings: Settings,
    *,
    masks: Iterable[Planes] | None = None,
    report: Report = silent,
    parts: Sequence[Part] | None = None,
) -> Prediction:
    """What an encode with these arguments would make, and how long that would take here.

    Fits some frames of the first segment for some seconds; with an `aim`, makes the trial fits that
    such an encode begins with if they are short. Without the settings' `lengths` the first
    segment is taken for the whole video. parts: the segments that the frames are of, by default all
    of them. SourceError if there are no frames.
    """
    plan = Plan.of(video, settings)
    seen = with_masks(frames, masks)
    request = next(segment_requests(plan, seen, None, report, parts), None)
    if request is None:
        raise SourceError("the source holds no frames in the selected range")
    count, config = len(request.frames), plan.preset.fit
    budget, fits, is_known = plan.budget(request.part), 1.0, True
    if budget is None:
        budget = starting_budget(request)
    if settings.denoise:
        fits, budget = 3, 2 * budget  # as it mostly happens: the second is the best

    fit_task = request.fit_task(budget, config, limit=PREDICTED_FRAMES)
    measured = measure_seconds(fit_task, FIRST_LOOK if settings.aim else CALIBRATION)
    trial = replace(fit_task, config=trial_config(config))
    if settings.aim:
        is_known = measured.of_fit(trial, count) < SHORT_TRIAL
        if is_known:
            budget = budget_for_quality(request, settings.aim)
            fit_task = request.fit_task(budget, config, limit=PREDICTED_FRAMES)
        measured = measure_seconds(fit_task, CALIBRATION)
    lengths = [part.frame_count for part in parts or plan.parts] or [count]
    started, seconds, trials = fit_task, 0.0, EXPECTED_TRIALS
    if plan.shares_start:
        typical = plan.typical_part.frame_count
        started = replace(fit_task, config=plan.started_config)
        seconds += measured.of_start(replace(fit_task, config=plan.start_config), typical)
        if settings.aim:
            seconds += trials * measured.of_fit(trial, typical)
            trials = 1  # as it begins near what it looks for
    seconds += fits * sum(measured.of_fit(started, length) for length in lengths)
    if settings.aim:
        seconds += trials * sum(measured.of_fit(trial, length) for length in lengths)
    specs = video.layers(fit_task.model)
    return Prediction(
        sum(lengths),
        len(lengths),
        weight_count(specs),
        macs_per_frame(specs) / (video.width * video.height),
        sum(lengths) * (settings.bytes_per_frame or budget / count) if is_known else None,
        seconds,
    )


def error_of_frames_between(path: str | Path, file_input: FileInput) -> PlaneError:
    """The distortion of frames that were left out by `file_input.every` and that a decoder makes
    from those around them. path: of the `.hnv` file that `file_input` was encoded to."""
    every = file_input.every
    with Decoder(path) as decoder:
        error = PlaneError(decoder.video.max_sample)
        whole = replace(file_input, every=1, limit=(len(decoder) - 1) * every + 1)
        with whole.open() as source:
            seen = with_masks(source.frames(), whole.masks(source.header))
            for n, (planes, mask) in enumerate(seen):
                if n % every:
                    _, made = next(decoder.frames([Fraction(n, every)]))
                    error.add(planes, made, mask)
    return error
