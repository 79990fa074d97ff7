"""What an encode is asked for, and what each of its segments gets of that. A segment's share
depends on nothing that becomes of the others, so that they can be fitted anywhere, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import TYPE_CHECKING, TypeVar

from hnervcodec.bitstream import container, levels
from hnervcodec.bitstream.architecture import weight_count
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.encoding import defaults
from hnervcodec.errors import SourceError, UsageError
from hnervcodec.fitting.model_choice import choose_model, smallest_budget
from hnervcodec.fitting.presets import PRESETS, FitConfig, Preset, ShapeLimits
from hnervcodec.fitting.quality_target import QualityTarget
from hnervcodec.media.scenes import MOST_FRAMES
from hnervcodec.system.devices import resolve_device

if TYPE_CHECKING:
    import torch

HIGHEST_BITS_PER_PIXEL = 0.5  # that constant quality may ask for
STRUCTURE = {"balanced": 0.1, "psnr": 0.0, "ssim": 0.7}  # by `tune`: MS-SSIM's part of the loss
# Of the steps before anything is quantized: what the fit that all segments begin from may take,
# at least a typical segment's, and at most so many times these, as other workers wait for it.
START_SHARE, MOST_START = 0.125, 2.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that decides what becomes of a video's frames. Exactly one of the first three is given:

    bytes_per_frame: size of the finished file divided by its frames; never exceeded.
    aim: instead, what quality every segment is to have, whatever bytes that takes.
    denoise: instead, as many bytes as best tell the video from its noise.
    preset: a key of `presets.PRESETS`, or one of your own.
    tune: "balanced", "psnr", or "ssim" for more MS-SSIM at less PSNR.
    segment_frames: frames fitted by one network, 1..2048; the last segment takes up to half as
    many again rather than leave a short rest.
    lengths: of the segments, instead of equal ones, as `scenes.scan` finds them in these frames.
    prune: share of weights set to zero by magnitude, 0..0.9.
    seed: the same one, machine and number of threads give the same file.
    device: "auto", or a name of torch's: where the fits run.
    """

    bytes_per_frame: float | None = None
    aim: QualityTarget | None = None
    denoise: bool = False
    preset: str | Preset = "medium"
    tune: str = "balanced"
    segment_frames: int = defaults.SEGMENT_FRAMES
    lengths: tuple[int, ...] | None = None
    prune: float = 0.0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.preset, str) and self.preset not in PRESETS:
            raise UsageError(f"unknown preset {self.preset!r}: choose from {', '.join(PRESETS)}")
        if self.tune not in STRUCTURE:
            raise UsageError(f"unknown tune {self.tune!r}: choose from {', '.join(STRUCTURE)}")
        if not 0 <= self.prune <= 0.9 or self.segment_frames < 1:
            raise UsageError(
                f"prune {self.prune} or segment_frames {self.segment_frames} is out of range"
            )
        if (self.bytes_per_frame is not None) + (self.aim is not None) + self.denoise != 1:
            raise UsageError("either a rate or a quality must be asked for, or denoising")
        if self.lengths and not 1 <= min(self.lengths) <= max(self.lengths) <= MOST_FRAMES:
            raise UsageError(f"a segment has 1 to {MOST_FRAMES} frames")


@dataclass(frozen=True, slots=True)
class Part:
    """A segment's place in the video; it and its frames are numbered from 0."""

    number: int
    first_frame: int
    frame_count: int

    @property
    def file_name(self) -> str:
        """Under which the job folder keeps the segment once it is encoded."""
        return f"{self.first_frame}.done"


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for every segment of one file: the settings, and what follows from them."""

    video: VideoHeader
    settings: Settings
    preset: Preset  # as the settings' seed, pruning and tune change it
    level: levels.Level

    @classmethod
    def of(cls, video: VideoHeader, settings: Settings) -> Plan:
        """The plan for such frames; UsageError or LimitError for what cannot be had."""
        if settings.bytes_per_frame is not None:
            check_rate(video, settings.bytes_per_frame)
        preset = (
            settings.preset if isinstance(settings.preset, Preset) else PRESETS[settings.preset]
        )
        config = replace(
            preset.fit, seed=settings.seed, prune=settings.prune, structure=STRUCTURE[settings.tune]
        )
        lengths = settings.lengths or (min(settings.segment_frames, MOST_FRAMES),)
        level = needed_level(video, {*lengths}, settings.bytes_per_frame, preset.limits)
        return cls(video, settings, replace(preset, fit=config), level)

    @property
    def device(self) -> torch.device:
        """Where this process fits; UsageError if there is no such device here."""
        return resolve_device(self.settings.device)

    @property
    def shares_start(self) -> bool:
        """Whether all segments begin from one short fit: known beforehand, and worth it."""
        return len(self.settings.lengths or ()) > 1 and not self.settings.denoise

    @property
    def typical_part(self) -> Part:
        """A segment of median length."""
        return sorted(self.parts, key=lambda part: part.frame_count)[len(self.parts) // 2]

    @property
    def start_config(self) -> FitConfig:
        """Of the fit that all segments begin from, to as many frames as a typical segment has: the
        longer, the more segments gain by it."""
        config = self.preset.fit
        times = min(max(len(self.parts) * START_SHARE, 1.0), MOST_START)
        return replace(
            config,
            updates_per_frame=times * config.updates_per_frame,
            least_steps=round(times * config.least_steps),
        )

    @property
    def started_config(self) -> FitConfig:
        """Of the fits of segments that begin from one short fit, whose steps come out of theirs."""
        config = self.preset.fit
        start = config.quantize_from * self.start_config.steps(self.typical_part.frame_count)
        all_steps = sum(config.steps(part.frame_count) for part in self.parts)
        left = 1 - start / all_steps
        return replace(
            config,
            updates_per_frame=left * config.updates_per_frame,
            least_steps=round(left * config.least_steps),
        )

    @property
    def parts(self) -> list[Part]:
        """Every segment, if their lengths are known beforehand."""
        lengths = self.settings.lengths or ()
        ends = accumulate(lengths)
        return [
            Part(n, end - length, length)
            for n, (length, end) in enumerate(zip(lengths, ends, strict=True))
        ]

    def budget(self, part: Part) -> int | None:
        """Bytes of the segment's payload; None where no rate was asked for."""
        rate = self.settings.bytes_per_frame
        if rate is None:
            return None

        def payloads(segments: int, frames: int) -> int:
            return math.floor(rate * frames) - container.overhead(segments) if segments else 0

        before = payloads(part.number, part.first_frame)
        return payloads(part.number + 1, part.first_frame + part.frame_count) - before


def check_rate(video: VideoHeader, bytes_per_frame: float) -> None:
    """UsageError for what is no rate, and for rates at which no codec is needed."""
    if not 0 < bytes_per_frame < math.inf:
        raise UsageError(f"{bytes_per_frame} bytes per frame is not a rate")
    pixels = video.width * video.height
    raw = video.packed_channels / 4 * video.bit_depth
    if 8 * bytes_per_frame / pixels >= raw:
        raise UsageError(
            f"{8 * bytes_per_frame / pixels:.4g} bits per pixel are asked for, but uncompressed "
            f"video of this format takes {raw:g}"
        )


def needed_level(
    video: VideoHeader, lengths: set[int], bytes_per_frame: float | None, limits: ShapeLimits
) -> levels.Level:
    """The lowest level for segments of these lengths; UsageError if the rate is too low for one."""
    largest = levels.LEVELS[max(levels.LEVELS)]
    weights = 0
    for length in lengths:
        if bytes_per_frame is not None:
            budget = math.floor(bytes_per_frame * length) - container.overhead(1)
        else:
            budget = highest_budget(video, length, limits)
        model = choose_model(video, length, budget, limits, largest)
        weights = max(weights, weight_count(video.layers(model)))
    return levels.lowest_level(video.width, video.height, weights)


def highest_budget(video: VideoHeader, frames: int, limits: ShapeLimits) -> int:
    """Bytes of the largest segment that constant quality may ask for."""
    highest = HIGHEST_BITS_PER_PIXEL * frames * video.width * video.height / 8
    return max(round(highest), smallest_budget(video, frames, limits))


def divide(frames: Iterable[T], parts: Iterable[Part]) -> Iterator[tuple[Part, list[T]]]:
    """Each part with its frames; SourceError if there are too few."""
    rest = iter(frames)
    for part in parts:
        group = list(islice(rest, part.frame_count))
        if len(group) < part.frame_count:
            raise SourceError("the source has become shorter since it was scanned")
        yield part, group


def divide_evenly(frames: Iterable[T], length: int) -> Iterator[tuple[Part, list[T]]]:
    """Parts of `length` frames, of which the last one holds up to half as many more."""
    length, first_frame, number = min(length, MOST_FRAMES), 0, 0
    held: list[T] = []
    for frame in frames:
        held.append(frame)
        if len(held) == min(length + (length + 1) // 2, MOST_FRAMES):
            yield Part(number, first_frame, length), held[:length]
            held, first_frame, number = held[length:], first_frame + length, number + 1
    if held:
        yield Part(number, first_frame, len(held)), held
