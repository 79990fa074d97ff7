"""The network that a byte budget and a preset's arithmetic afford. Pure arithmetic: no torch."""

from __future__ import annotations

import math

from hnervcodec.bitstream import levels
from hnervcodec.bitstream.architecture import ModelConfig, StageConfig, macs_per_frame, weight_count
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.errors import UsageError
from hnervcodec.fitting.presets import ShapeLimits
from hnervcodec.planes import packed_size, plane_shapes

# Bits a weight costs in the networks we choose (range-coded levels of about 5 bits).
BITS_PER_WEIGHT = 5.0
# Bits an embedding value costs after temporal prediction: a rule of thumb, like the one above.
BITS_PER_EMBEDDING = 1.5
MIN_CHANNELS, MAX_CHANNELS = 4, 256
# Widths of the last two stages, where nearly all the arithmetic is: processors multiply 16 channels
# at a time, so that in between only 24 is worth its time.
LATE_CHANNELS = (*range(MIN_CHANNELS, 17), 24, *range(32, MAX_CHANNELS + 1, 16))
EARLY_TO_LATE = 8  # how much wider the earlier stages may be, to use up the budget
# A 3x3 head is learnt later, for more bytes and arithmetic (tools/results/rate_distortion.md).
HEAD_KERNEL = 1
EMBED_CHANNELS = (16, 8, 4, 2)  # the first that leaves enough of the budget to the weights
EMBED_SHARE = 0.25  # of the budget, at most
# An embedding of few positions cannot tell what moves where; what it should have of the budget is
# about this share, but for small budgets, where ten positions already take more.
POSITIONS_SHARE = 0.05
MIN_POSITIONS, MAX_POSITIONS = 10, 160


def _wanted_positions(frames: int, budget: int) -> float:
    """Positions of an embedding that takes its share of `budget` bytes, by rule of thumb."""
    each = BITS_PER_EMBEDDING * EMBED_CHANNELS[0] * frames
    return min(max(POSITIONS_SHARE * 8 * budget / each, MIN_POSITIONS), MAX_POSITIONS)


def _strides(width: int, height: int, wanted: float) -> tuple[int, ...]:
    """Upsampling factors, largest first: an embedding of about the `wanted` number of positions,
    at no more than 15 % more padding than the best choice."""
    packed = packed_size(width, height)

    def positions(strides: tuple[int, ...]) -> int:
        s = math.prod(strides)
        return -(-packed[0] // s) * -(-packed[1] // s)

    def padded(strides: tuple[int, ...]) -> int:
        return positions(strides) * math.prod(strides) ** 2

    # Doublings last, where the residual convolutions are; larger steps where pixels are few.
    candidates = [
        (first, *[4] * fours, *[2] * twos)
        for twos in (3, 2, 1, 0)
        for fours in range(5)
        for first in (2, 3, 4, 5)
    ]
    usable = [s for s in candidates if 4 <= positions(s) <= MAX_POSITIONS] or [(2,)]
    least = min(map(padded, usable))
    lean = [s for s in usable if padded(s) <= 1.15 * least]
    return min(lean, key=lambda s: abs(math.log(positions(s) / wanted)))


def _model(
    strides: tuple[int, ...], early: int, late: int, residuals: int, embed_channels: int
) -> ModelConfig:
    """`late` channels in the last two stages, `early` before them."""
    count = len(strides)
    stages = tuple(
        StageConfig(stride, 1 if n == 0 else 3, late, residuals)
        if n >= count - 2
        else StageConfig(stride, 1 if n == 0 else 3, early, 0)
        for n, stride in enumerate(strides)
    )
    return ModelConfig(embed_channels, early, stages, HEAD_KERNEL)


def segment_overhead(model: ModelConfig, video: VideoHeader, frames: int) -> int:
    """About how many bytes of a segment are neither weights nor embeddings: header, tables, biases,
    checksums."""
    specs = video.layers(model)
    biases = sum(spec.out_channels for spec in specs)  # about one byte each
    return (
        24
        + 5 * len(model.stages)
        + 4 * (model.embed_channels + 1)
        + 16 * len(specs)
        + (biases + 4 * frames)
    )


def choose_model(
    video: VideoHeader, frames: int, budget: int, limits: ShapeLimits, level: levels.Level
) -> ModelConfig:
    """The network to fit for a segment of `frames` frames in `budget` bytes.

    Its embedding has as many positions as the budget suggests, or fewer where that leaves bytes
    without use, as more positions make the early stages costlier. UsageError if the budget is too
    small for any network, with the least that would do.
    """
    wanted = _wanted_positions(frames, budget)
    chosen: ModelConfig | None = None
    while True:
        strides = _strides(video.width, video.height, wanted)
        model = _widest(strides, video, frames, budget, limits, level)
        if model and (
            chosen is None or _bits(model, video, frames) > 1.1 * _bits(chosen, video, frames)
        ):
            chosen = model
        if wanted == MIN_POSITIONS:
            break
        wanted = max(wanted / 2, MIN_POSITIONS)
    if chosen:
        return chosen
    pixels = video.width * video.height
    need = smallest_budget(video, frames, limits)
    samples = sum(map(math.prod, plane_shapes(video.width, video.height, video.chroma_format)))
    whole = math.ceil(frames * samples * video.bit_depth / 8)
    if need >= whole:
        raise UsageError(
            f"{frames} frames of {video.width}x{video.height} are too little to code: the smallest "
            f"network needs about {need} bytes, uncompressed they take {whole}"
        )
    raise UsageError(
        f"{max(budget, 0)} bytes for {frames} frames of {video.width}x{video.height} are too few: "
        f"the smallest network needs about {need} bytes ({8 * need / pixels / frames:.4f} bpp)"
    )


def _widest(
    strides: tuple[int, ...],
    video: VideoHeader,
    frames: int,
    budget: int,
    limits: ShapeLimits,
    level: levels.Level,
) -> ModelConfig | None:
    """The network with these strides that has as many weights as the budget pays for and the
    preset's arithmetic and the level allow, in stages as evenly wide as that leaves them."""
    pixels = video.width * video.height

    def weights_of(model: ModelConfig) -> int:
        """0 if it is too large in any respect."""
        specs = video.layers(model)
        weights = weight_count(specs)
        room = 8 * (budget - segment_overhead(model, video, frames))
        fits = (
            _bits(model, video, frames) <= room
            and weights <= level.weights
            and macs_per_frame(specs) <= limits.macs_per_pixel * pixels
        )
        return weights if fits else 0

    def with_late(late: int, embed_channels: int) -> tuple[int, ModelConfig] | None:
        """(weights, model). Narrow stages have all the residual convolutions, wide ones as many as
        the budget leaves them."""
        fewest = limits.residuals if late <= 16 else min(1, limits.residuals)
        for residuals in range(limits.residuals, fewest - 1, -1):
            best: tuple[int, ModelConfig] | None = None
            for early in range(late, EARLY_TO_LATE * late + 1):
                model = _model(strides, early, late, residuals, embed_channels)
                weights = weights_of(model)
                if weights == 0:
                    break
                best = weights, model
            if best is not None:
                return best
        return None

    for embed_channels in EMBED_CHANNELS:
        least = _model(strides, MIN_CHANNELS, MIN_CHANNELS, 0, embed_channels)
        most = EMBED_SHARE * 8 * budget
        if _embedding_bits(least, video, frames) > most and embed_channels > EMBED_CHANNELS[-1]:
            continue
        candidates: list[tuple[int, ModelConfig]] = []  # (weights, model), evenest last
        for late in LATE_CHANNELS:
            best = with_late(late, embed_channels)
            if best is None:
                break
            candidates.append(best)
        if candidates:
            most = max(weights for weights, _ in candidates)
            return next(model for weights, model in reversed(candidates) if weights >= 0.9 * most)
    return None


def smallest_budget(video: VideoHeader, frames: int, limits: ShapeLimits) -> int:
    """Bytes of a segment with the smallest network, by rule of thumb."""
    strides = _strides(video.width, video.height, MIN_POSITIONS)
    smallest = _model(strides, MIN_CHANNELS, MIN_CHANNELS, limits.residuals, EMBED_CHANNELS[-1])
    bits = _bits(smallest, video, frames)
    return segment_overhead(smallest, video, frames) + math.ceil(bits / 8)


def _embedding_bits(model: ModelConfig, video: VideoHeader, frames: int) -> float:
    """By rule of thumb."""
    stem = video.layers(model)[0]
    return BITS_PER_EMBEDDING * frames * stem.in_channels * stem.height * stem.width


def _bits(model: ModelConfig, video: VideoHeader, frames: int) -> float:
    """Bits of weights and embeddings, by rule of thumb."""
    weights = weight_count(video.layers(model))
    return BITS_PER_WEIGHT * weights + _embedding_bits(model, video, frames)
