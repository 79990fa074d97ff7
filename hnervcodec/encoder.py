"""Frames -> segments -> file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, TypeVar

import numpy as np
import torch

from hnervcodec import container, profiles, segment
from hnervcodec.bitstream import crc32
from hnervcodec.errors import HnervError, SourceError, UsageError
from hnervcodec.fitting import FitConfig, Progress, fit
from hnervcodec.metrics import PlaneError
from hnervcodec.planes import Planes, pack, plane_bytes, unpack
from hnervcodec.presets import PRESETS, Preset
from hnervcodec.quantization import FittedSegment, quantize
from hnervcodec.ratecontrol import choose_model
from hnervcodec.segment import QuantizedSegment
from hnervcodec.syntax import VideoHeader
from hnervcodec.synthesis import Synthesis, resolve_device

DEFAULT_SEGMENT_FRAMES = 256


@dataclass
class EncodeResult:
    """What an encode made. PSNRs are of the frames as every decoder will reconstruct them."""

    video: VideoHeader
    error: PlaneError
    bytes: int = 0
    target_bytes: float = 0.0
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
    bytes_per_frame: float,
    preset: str = "medium",
    segment_frames: int = DEFAULT_SEGMENT_FRAMES,
    seed: int = 0,
    prune: float = 0.0,
    device: str = "auto",
    expected_frames: int | None = None,
    report: Report = lambda number, progress: None,
) -> EncodeResult:
    """Writes a whole `.hnv` file for `frames` to `file` (a seekable file or a pipe).

    bytes_per_frame: size of the finished file divided by its frames; never exceeded.
    segment_frames: frames fitted by one network, 1..2048; the last segment takes up to half as
    many again rather than leave a short rest.
    prune: share of weights set to zero by magnitude, 0..0.9.
    expected_frames: if known, a rate that is too low for the last segment is refused at once.
    """
    start = time.monotonic()
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS)}")
    if not 0 <= prune <= 0.9 or segment_frames < 1:
        raise UsageError(f"prune {prune} or segment_frames {segment_frames} is out of range")
    chosen, target_device = PRESETS[preset], resolve_device(device)
    check_rate(video, bytes_per_frame)
    level = profiles.lowest_level(video.width, video.height)
    for coming in split(range(expected_frames or 0), min(segment_frames, level.frames)):
        budget = math.floor(bytes_per_frame * len(coming)) - container.overhead(1)
        choose_model(video, len(coming), budget, chosen.limits, level)
    config = FitConfig(epochs=chosen.epochs, seed=seed, prune=prune)
    writer = container.Writer(file, video, level)
    result = EncodeResult(video, PlaneError(video.max_sample))
    payload_bytes = 0
    for number, group in enumerate(split(frames, min(segment_frames, level.frames))):
        total = writer.frame_count + len(group)
        budget = math.floor(bytes_per_frame * total) - container.overhead(number + 1)
        payload, quantized = encode_segment(
            group, video, writer.frame_count, budget - payload_bytes, chosen, config, level,
            target_device, result.error, lambda progress, n=number: report(n, progress),  # type: ignore[misc]
        )  # fmt: skip
        payload_bytes += len(payload)
        writer.segment(payload, len(group))
        result.weights = sum(spec.weights for spec in quantized.specs)
        macs = sum(spec.macs for spec in quantized.specs)
        result.macs_per_pixel = macs / (video.width * video.height)
    if writer.frame_count == 0:
        raise SourceError("the source holds no frames in the selected range")
    result.bytes = writer.finish()
    result.frames, result.segments = writer.frame_count, number + 1
    result.target_bytes = bytes_per_frame * writer.frame_count
    result.seconds = time.monotonic() - start
    return result


def split(frames: Iterable[T], length: int) -> Iterator[list[T]]:
    """Groups of `length` frames; the last one holds up to half as many more."""
    held: list[T] = []
    for frame in frames:
        held.append(frame)
        if len(held) == length + (length + 1) // 2:
            yield held[:length]
            held = held[length:]
    if held:
        yield held


def encode_segment(
    frames: list[Planes],
    video: VideoHeader,
    first_frame: int,
    budget: int,
    preset: Preset,
    config: FitConfig,
    level: profiles.Level,
    device: torch.device,
    error: PlaneError,
    report: Callable[[Progress], None],
) -> tuple[bytes, QuantizedSegment]:
    """A SEGM payload of at most `budget` bytes; adds its distortion to `error`."""
    model = choose_model(video, len(frames), budget, preset.limits, level)
    profiles.check_segment(level, video.layers(model), len(frames))
    height, width = (size * model.stride for size in model.embed_size(video.width, video.height))
    packed = np.stack([pack(planes, video.chroma_format, height, width) for planes in frames])
    fitted = fit(packed, video, model, config, budget, device=device, report=report)
    payload = land(fitted, video, first_frame, budget)
    # What the file says is what counts: decode the bytes themselves, in normative arithmetic.
    quantized = segment.read(payload, video, level)
    synthesis = Synthesis(quantized, video)
    crcs: list[int] = []
    proof = Synthesis(quantized, video, path="float64").packed([0])
    if (proof != synthesis.packed([0])).any():
        raise HnervError("this machine's fast arithmetic is not exact: please report it")
    for batch in synthesis.batches(range(len(frames))):
        for samples in batch:
            decoded = unpack(samples, video.chroma_format, video.width, video.height)
            error.add(frames[len(crcs)], decoded)
            crcs.append(crc32(plane_bytes(decoded)))
    quantized = replace(quantized, frame_crcs=np.array(crcs, np.uint32))
    return segment.write(quantized), quantized


def land(fitted: FittedSegment, video: VideoHeader, first_frame: int, budget: int) -> bytes:
    """The payload with the fitted steps or, where that is too large, with steps just coarse
    enough."""
    payload = segment.write(quantize(fitted, video, first_frame))
    if len(payload) <= budget:
        return payload
    low, high = 1.0, 1.02
    while len(payload) > budget:
        high = 1 + 2 * (high - 1)
        if high > 1000:
            raise UsageError(f"{budget} bytes are too few for this segment: ask for more")
        payload = segment.write(quantize(fitted, video, first_frame, coarser=high))
    for _ in range(6):
        middle = (low + high) / 2
        candidate = segment.write(quantize(fitted, video, first_frame, coarser=middle))
        if len(candidate) <= budget:
            high, payload = middle, candidate
        else:
            low = middle
    return payload
