"""Frames -> segments -> file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, repeat
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import torch

from hnervcodec import container, profiles, segment
from hnervcodec.architecture import ModelConfig, macs_per_frame, weight_count
from hnervcodec.bitstream import crc32
from hnervcodec.checkpoints import Job
from hnervcodec.decoder import Decoder
from hnervcodec.errors import HnervError, SourceError, UsageError
from hnervcodec.extras import Extras
from hnervcodec.fitting import Progress, fit, predict_seconds
from hnervcodec.kernels import resolve_device
from hnervcodec.landing import Landing
from hnervcodec.masks import fill
from hnervcodec.metrics import PlaneError
from hnervcodec.planes import Planes, pack, plane_bytes, unpack
from hnervcodec.presets import PRESETS, Preset
from hnervcodec.ratecontrol import (
    Aim,
    ConstantPsnr,
    ShapeLimits,
    choose_model,
    smallest_budget,
)
from hnervcodec.scenes import MOST_FRAMES
from hnervcodec.segment import QuantizedSegment
from hnervcodec.syntax import VideoHeader
from hnervcodec.synthesis import Synthesis

DEFAULT_SEGMENT_FRAMES = 256
STRUCTURE = {"psnr": 0.0, "ssim": 0.7}  # by `tune`: how much of the loss is MS-SSIM's


@dataclass
class EncodeResult:
    """What an encode made. PSNRs are of the frames as every decoder will reconstruct them."""

    video: VideoHeader
    error: PlaneError
    bytes: int = 0
    target_bytes: float | None = None  # None for constant quality
    frames: int = 0
    segments: int = 0
    weights: int = 0
    macs_per_pixel: float = 0.0
    seconds: float = 0.0

    @property
    def bits_per_pixel(self) -> float:
        return 8 * self.bytes / (self.frames * self.video.width * self.video.height)


T = TypeVar("T")
Report = Callable[[int, Progress], None]  # segment number, progress within it


def check_rate(video: VideoHeader, bytes_per_frame: float) -> None:
    """Refuses what is no rate, and rates at which no codec is needed."""
    if not 0 < bytes_per_frame < math.inf:
        raise UsageError(f"{bytes_per_frame} bytes per frame is not a rate")
    pixels = video.width * video.height
    raw = video.packed_channels / 4 * video.bit_depth
    if 8 * bytes_per_frame / pixels >= raw:
        raise UsageError(
            f"{8 * bytes_per_frame / pixels:.4g} bits per pixel are asked for, but uncompressed "
            f"video of this format takes {raw:g}"
        )


def encode(
    video: VideoHeader,
    frames: Iterable[Planes],
    file: BinaryIO,
    *,
    bytes_per_frame: float | None = None,
    aim: Aim | None = None,
    denoise: bool = False,
    preset: str = "medium",
    segment_frames: int = DEFAULT_SEGMENT_FRAMES,
    seed: int = 0,
    prune: float = 0.0,
    tune: str = "psnr",
    device: str = "auto",
    lengths: list[int] | None = None,
    masks: Iterable[Planes] | None = None,
    work: Job | None = None,
    extras: Extras | None = None,
    report: Report = lambda number, progress: None,
) -> EncodeResult:
    """Writes a whole `.hnv` file for `frames` to `file` (a seekable file or a pipe).

    bytes_per_frame: size of the finished file, without extras, divided by its frames; never
    exceeded.
    aim: instead, what quality every segment is to have, whatever bytes that takes.
    denoise: instead, as many bytes as best tell the video from its noise (see `denoised_segment`).
    segment_frames: frames fitted by one network, 1..2048; the last segment takes up to half as
    many again rather than leave a short rest.
    prune: share of weights set to zero by magnitude, 0..0.9.
    tune: "psnr", or "ssim" for more MS-SSIM at less PSNR.
    lengths: of the segments, instead of equal ones, as `scenes.scan` finds them in these frames.
    masks: for each frame which of its samples the result need not resemble (see `masks`); they
    count neither for the fit nor for the PSNRs.
    work: where unfinished work is kept, and taken up again.
    extras: what goes beside exactly these frames.
    """
    start = time.monotonic()
    plan = make_plan(
        video, bytes_per_frame, aim, denoise, preset, segment_frames, seed, prune, tune, device,
        lengths,
    )  # fmt: skip
    writer = container.Writer(file, video, plan.level, extras.minor if extras is not None else 0)
    for chunk in extras.before_segments() if extras is not None else ():
        writer.ancillary(*chunk)
    result = EncodeResult(video, PlaneError(video.max_sample))
    payload_bytes = 0
    for number, group in enumerate(divide(masked(frames, masks), plan.segment_frames, lengths)):
        job = segment_job(
            group, video, writer.frame_count, plan,
            lambda progress, n=number: report(n, progress),  # type: ignore[misc]
            work,
        )  # fmt: skip
        if bytes_per_frame is not None:
            total = writer.frame_count + len(group)
            budget = math.floor(bytes_per_frame * total) - container.overhead(number + 1)
            payload, quantized = encode_segment(job, budget - payload_bytes, None, result.error)
        elif denoise:
            payload, quantized = denoised_segment(job, result.error)
        else:
            assert aim is not None  # as checked above
            payload, quantized = encode_segment(job, first_budget(job, aim), aim, result.error)
        payload_bytes += len(payload)
        beside = extras.of_segment(writer.frame_count, len(group)) if extras is not None else ()
        writer.segment(payload, len(group))
        for chunk in beside:
            writer.ancillary(*chunk)
        result.weights = sum(spec.weights for spec in quantized.specs)
        macs = sum(spec.macs for spec in quantized.specs)
        result.macs_per_pixel = macs / (video.width * video.height)
    if writer.frame_count == 0:
        raise SourceError("the source holds no frames in the selected range")
    result.bytes = writer.finish()
    result.frames, result.segments = writer.frame_count, number + 1
    if bytes_per_frame is not None:
        extra_bytes = result.bytes - payload_bytes - container.overhead(result.segments)
        result.target_bytes = bytes_per_frame * writer.frame_count + extra_bytes
    result.seconds = time.monotonic() - start
    return result


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
    *,
    bytes_per_frame: float | None = None,
    aim: Aim | None = None,
    denoise: bool = False,
    preset: str = "medium",
    segment_frames: int = DEFAULT_SEGMENT_FRAMES,
    prune: float = 0.0,
    tune: str = "psnr",
    device: str = "auto",
    lengths: list[int] | None = None,
    masks: Iterable[Planes] | None = None,
    report: Report = lambda number, progress: None,
) -> Prediction:
    """How large a network `encode` would fit with these arguments and how long that would take on
    this machine, from trials with the first segment of about ten seconds; with an `aim` also from
    the trial fits that `encode` begins with. Without `lengths` the first segment is taken for the
    whole."""
    plan = make_plan(
        video, bytes_per_frame, aim, denoise, preset, segment_frames, 0, prune, tune, device,
        lengths,
    )  # fmt: skip
    start = time.monotonic()
    group = next(divide(masked(frames, masks), plan.segment_frames, lengths), [])
    if not group:
        raise SourceError("the source holds no frames in the selected range")
    job = segment_job(group, video, 0, plan, lambda progress: report(0, progress))
    fits = 1
    if bytes_per_frame is not None:
        budget = math.floor(bytes_per_frame * len(group)) - container.overhead(1)
    elif denoise:
        fits, budget = 3, 2 * least_budget(job)  # as it mostly happens: the second is the best
    else:
        assert aim is not None
        budget = first_budget(job, aim)
    trials = time.monotonic() - start
    model = job.model(budget)
    seconds = trials + fits * predict_seconds(
        job.packed(model), video, model, plan.preset.fit, budget,
        hidden=job.hidden(model), device=job.device,
    )  # fmt: skip
    total = sum(lengths) if lengths else len(group)
    specs = video.layers(model)
    return Prediction(
        total, len(lengths) if lengths else 1, weight_count(specs),
        macs_per_frame(specs) / (video.width * video.height),
        total * (bytes_per_frame or budget / len(group)), seconds * total / len(group),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for every segment."""

    preset: Preset
    level: profiles.Level
    device: torch.device
    segment_frames: int


def make_plan(
    video: VideoHeader, bytes_per_frame: float | None, aim: Aim | None, denoise: bool, preset: str,
    segment_frames: int, seed: int, prune: float, tune: str, device: str,
    lengths: list[int] | None,
) -> Plan:  # fmt: skip
    """Checks the arguments of `encode`."""
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS)}")
    if tune not in STRUCTURE:
        raise UsageError(f"unknown tune {tune!r}: choose from {', '.join(STRUCTURE)}")
    if not 0 <= prune <= 0.9 or segment_frames < 1:
        raise UsageError(f"prune {prune} or segment_frames {segment_frames} is out of range")
    if (bytes_per_frame is not None) + (aim is not None) + denoise != 1:
        raise UsageError("either a rate or a quality must be asked for, or denoising")
    if bytes_per_frame is not None:
        check_rate(video, bytes_per_frame)
    chosen = PRESETS[preset]
    segment_frames = min(segment_frames, MOST_FRAMES)
    if lengths and max(lengths) > MOST_FRAMES:
        raise UsageError(f"a segment has at most {MOST_FRAMES} frames")
    level = needed_level(video, {*(lengths or [segment_frames])}, bytes_per_frame, chosen.limits)
    config = replace(chosen.fit, seed=seed, prune=prune, structure=STRUCTURE[tune])
    return Plan(replace(chosen, fit=config), level, resolve_device(device), segment_frames)


def needed_level(
    video: VideoHeader, lengths: set[int], bytes_per_frame: float | None, limits: ShapeLimits
) -> profiles.Level:
    """The lowest level for segments of these lengths; a rate too low for one of them is refused."""
    largest = profiles.LEVELS[max(profiles.LEVELS)]
    weights = 0
    for length in lengths:
        if bytes_per_frame is not None:
            budget = math.floor(bytes_per_frame * length) - container.overhead(1)
        else:
            budget = highest_budget(video, length, limits)
        model = choose_model(video, length, budget, limits, largest)
        weights = max(weights, weight_count(video.layers(model)))
    return profiles.lowest_level(video.width, video.height, weights)


def divide(frames: Iterable[T], length: int, lengths: list[int] | None) -> Iterator[list[T]]:
    """Groups of these lengths; without them of `length`, of which the last one holds up to half as
    many more."""
    rest = iter(frames)
    if lengths:
        for wanted in lengths:
            group = list(islice(rest, wanted))
            if len(group) < wanted:
                raise SourceError("the source has become shorter since it was scanned")
            yield group
        return
    held: list[T] = []
    for frame in rest:
        held.append(frame)
        if len(held) == min(length + (length + 1) // 2, MOST_FRAMES):
            yield held[:length]
            held = held[length:]
    if held:
        yield held


@dataclass(frozen=True)
class SegmentJob:
    """One segment to be fitted."""

    frames: list[Planes]
    masks: list[Planes] | None
    video: VideoHeader
    first_frame: int
    preset: Preset
    level: profiles.Level
    device: torch.device
    report: Callable[[Progress], None]
    work: Job | None

    def model(self, budget: int) -> ModelConfig:
        limits = self.preset.limits
        model = choose_model(self.video, len(self.frames), budget, limits, self.level)
        profiles.check_segment(self.level, self.video.layers(model), len(self.frames))
        return model

    def packed(self, model: ModelConfig) -> np.ndarray:
        """[T, channels, H, W], padded to whole embedding positions."""
        frames = self.frames
        if self.masks:
            frames = fill(frames, self.masks, (self.video.max_sample + 1) // 2)
        return self._packed(frames, model)

    def hidden(self, model: ModelConfig) -> np.ndarray | None:
        """bool [T, channels, H, W]: the masks."""
        return self._packed(self.masks, model) if self.masks else None

    def _packed(self, frames: list[Planes], model: ModelConfig) -> np.ndarray:
        video = self.video
        height, width = (n * model.stride for n in model.embed_size(video.width, video.height))
        return np.stack([pack(p, video.chroma_format, height, width) for p in frames])


Seen = tuple[Planes, Planes | None]  # a frame and its mask


def masked(frames: Iterable[Planes], masks: Iterable[Planes] | None) -> Iterator[Seen]:
    """Each frame with its mask."""
    return zip(frames, repeat(None) if masks is None else masks, strict=False)


def segment_job(
    group: list[Seen], video: VideoHeader, first_frame: int, plan: Plan,
    report: Callable[[Progress], None], work: Job | None = None,
) -> SegmentJob:  # fmt: skip
    masks = [mask for _, mask in group if mask is not None]
    return SegmentJob(
        [planes for planes, _ in group], masks or None, video, first_frame, plan.preset,
        plan.level, plan.device, report, work,
    )  # fmt: skip


TRIAL_UPDATES = 2.0  # per frame: how long the trials for a constant quality fit
GAIN_PER_DOUBLING = 0.6  # dB that twice the updates are expected to bring
TRIAL_BITS_PER_PIXEL, HIGHEST_BITS_PER_PIXEL = 0.05, 0.5


def highest_budget(video: VideoHeader, frames: int, limits: ShapeLimits) -> int:
    """Bytes of the largest segment that constant quality may ask for."""
    highest = HIGHEST_BITS_PER_PIXEL * frames * video.width * video.height / 8
    return max(round(highest), smallest_budget(video, frames, limits))


def least_budget(job: SegmentJob) -> int:
    """Bytes to begin a search with."""
    pixels = len(job.frames) * job.video.width * job.video.height
    least = smallest_budget(job.video, len(job.frames), job.preset.limits)
    return max(least, round(TRIAL_BITS_PER_PIXEL * pixels / 8))


def first_budget(job: SegmentJob, aim: Aim) -> int:
    """Bytes that `aim` is expected to take, from short trial fits."""
    video, config = job.video, job.preset.fit
    pixels = len(job.frames) * video.width * video.height
    least = smallest_budget(video, len(job.frames), job.preset.limits)
    most = highest_budget(video, len(job.frames), job.preset.limits)
    budget = least_budget(job)
    trial = replace(config, updates_per_frame=min(TRIAL_UPDATES, config.updates_per_frame))
    gain = GAIN_PER_DOUBLING * math.log2(config.updates_per_frame / trial.updates_per_frame)
    for _ in range(3):
        model = job.model(budget)
        reached = [0.0]

        def report(progress: Progress, reached: list[float] = reached) -> None:
            reached[0] = progress.psnr
            job.report(replace(progress, phase="trial"))

        fit(
            job.packed(model), video, model, trial, budget,
            hidden=job.hidden(model), device=job.device, report=report,
        )  # fmt: skip
        octaves = aim.octaves(10 ** (-0.1 * (reached[0] + gain)), 8 * budget / pixels)
        tried = budget
        budget = min(max(round(budget * 2 ** min(max(octaves, -3), 3)), least), most)
        if abs(octaves) < 1 or budget == tried:
            break
    return budget


def encode_segment(
    job: SegmentJob, budget: int, aim: Aim | None, error: PlaneError
) -> tuple[bytes, QuantizedSegment]:
    """A SEGM payload of at most `budget` bytes or, with an `aim`, of as many as that takes; adds
    its distortion to `error`."""
    video, level, name = job.video, job.level, f"{job.first_frame}-{budget}"
    if job.work is None:
        payload = fitted_payload(job, budget, aim, None)
    else:
        checkpoint = job.work.checkpoint(name)
        payload = job.work.payload(name, lambda: fitted_payload(job, budget, aim, checkpoint))
    # What the file says is what counts: decode the bytes themselves, in normative arithmetic.
    quantized = segment.read(payload, video, level)
    synthesis = Synthesis(quantized, video, threads=torch.get_num_threads())
    proof = Synthesis(quantized, video, path="float64").packed([0])
    if (proof != synthesis.packed([0])).any():
        raise HnervError("this machine's fast arithmetic is not exact: please report it")
    crcs = decode(synthesis, job, error)
    quantized = replace(quantized, frame_crcs=np.array(crcs, np.uint32))
    return segment.write(quantized), quantized


def fitted_payload(job: SegmentJob, budget: int, aim: Aim | None, checkpoint: Path | None) -> bytes:
    """A payload as `encode_segment` wants it, but for the frames' checksums."""
    video = job.video
    model = job.model(budget)
    fitted = fit(
        job.packed(model), video, model, job.preset.fit, budget, hidden=job.hidden(model),
        aim=aim, device=job.device, checkpoint=checkpoint, report=job.report,
    )  # fmt: skip

    def quality(quantized: QuantizedSegment) -> float:
        decoded = PlaneError(video.max_sample)
        decode(Synthesis(quantized, video, threads=torch.get_num_threads()), job, decoded)
        return decoded.average

    landing = Landing(fitted, video, job.first_frame, quality)
    if aim is None:
        return landing.on_budget(budget)
    if isinstance(aim, ConstantPsnr):
        return landing.on_psnr(aim.psnr)
    return landing.payload({})


HELD_OUT = 0.03  # share of the samples that a denoising fit is judged by


def denoised_segment(job: SegmentJob, error: PlaneError) -> tuple[bytes, QuantizedSegment]:
    """Of fits with ever twice as many bytes, the one that best predicts samples it was not shown.
    Noise that differs from sample to sample cannot be predicted: once more bytes go into noise,
    these predictions get worse (the argument of Noise2Self, arXiv 1901.11365)."""
    random = np.random.default_rng(job.preset.fit.seed)
    held = [tuple(random.random(p.shape) < HELD_OUT for p in planes) for planes in job.frames]
    masks = job.masks or [tuple(np.zeros(p.shape, bool) for p in planes) for planes in job.frames]
    hidden = [_each(np.logical_or, h, m) for h, m in zip(held, masks, strict=True)]
    seen = [_each(lambda h, m: ~h | m, h, m) for h, m in zip(held, masks, strict=True)]
    best: tuple[float, bytes, QuantizedSegment] | None = None
    budget, tried = least_budget(job), 0
    most = max(4 * budget, highest_budget(job.video, len(job.frames), job.preset.limits))
    while budget <= most:
        tried += 1

        def report(progress: Progress, number: int = tried) -> None:
            job.report(replace(progress, phase=f"{progress.phase} {number}"))

        shown, judged = PlaneError(job.video.max_sample), PlaneError(job.video.max_sample)
        fit_job = replace(job, masks=hidden, report=report)
        payload, quantized = encode_segment(fit_job, budget, None, shown)
        synthesis = Synthesis(quantized, job.video, threads=torch.get_num_threads())
        decode(synthesis, replace(job, masks=seen), judged)
        if best and judged.average <= best[0]:
            break
        best = judged.average, payload, quantized
        budget *= 2
    assert best is not None  # as the first budget is one of them
    _, payload, quantized = best
    decode(Synthesis(quantized, job.video, threads=torch.get_num_threads()), job, error)
    return payload, quantized


def _each(function: Callable[..., np.ndarray], *planes: Planes) -> Planes:
    return tuple(function(*same) for same in zip(*planes, strict=True))


def error_between(path: str | Path, every: int, source: Iterable[Planes]) -> PlaneError:
    """What the frames that a decoder makes between the coded ones have for distortion, if each
    `every`-th of `source` was coded."""
    with Decoder(path) as decoder:
        error = PlaneError(decoder.video.max_sample)
        for n, planes in enumerate(source):
            if n % every and n // every + 1 < len(decoder):
                _, made = next(decoder.frames([Fraction(n, every)]))
                error.add(planes, made)
    return error


def decode(synthesis: Synthesis, job: SegmentJob, error: PlaneError) -> list[int]:
    """CRC-32s of the segment's decoded frames; adds their distortion to `error`."""
    crcs: list[int] = []
    video = job.video
    for batch in synthesis.batches(range(len(job.frames))):
        for samples in batch:
            decoded = unpack(samples, video.chroma_format, video.width, video.height)
            mask = job.masks[len(crcs)] if job.masks else None
            error.add(job.frames[len(crcs)], decoded, mask)
            crcs.append(crc32(plane_bytes(decoded)))
    return crcs
