"""`QuantizedSegment` <-> the payload of a SEGM chunk (spec section "Segment").

The waist of the codec: integers only. Above it the encoder is free, below it every byte and every
sample is fixed. Works without torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hnervcodec.bitstream import headers, range_coding
from hnervcodec.bitstream import levels as profiles
from hnervcodec.bitstream.architecture import LayerSpec, ModelConfig
from hnervcodec.bitstream.fields import ByteReader, ByteWriter
from hnervcodec.bitstream.headers import LayerHeader, Requant, SegmentHeader, VideoHeader
from hnervcodec.errors import FileError, UsageError

WORK_PER_TENSOR = 1 << 12  # of `decoding_work`, however small the tensor is
ACCUMULATOR_LIMIT = 1 << 24  # below it float32 adds integers exactly, in any order


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """Levels of one convolution (`LayerSpec` gives the shapes)."""

    weight: np.ndarray  # int32 [out * shuffle**2, in, kernel, kernel]
    bias: np.ndarray  # int32 [out], in units of 2**bias_shift
    requant: Requant

    def accumulator_bias(self, spec: LayerSpec) -> np.ndarray:
        """int64 [out * shuffle**2]: the bias with the rounding offset of the shift folded in."""
        rounding = (1 << self.requant.shift) >> 1
        bias = (self.bias.astype(np.int64) << self.requant.bias_shift) + rounding
        return bias.repeat(spec.shuffle**2)


@dataclass(frozen=True, slots=True)
class QuantizedSegment:
    """Everything a decoder needs for `frame_count` frames."""

    first_frame: int
    model: ModelConfig
    specs: tuple[LayerSpec, ...]
    layers: tuple[QuantizedLayer, ...]
    embedding: np.ndarray  # uint8 [T, C, h, w]
    embed_zero_point: int
    frame_crcs: np.ndarray  # uint32 [T]: CRC-32 of each decoded frame's planes

    @property
    def frame_count(self) -> int:
        """Of the segment."""
        return len(self.embedding)

    def embeddings_at(self, positions: Sequence[int | Fraction]) -> np.ndarray:
        """uint8 [B, C, h, w]: embeddings of frames 0..T - 1 and, at fractions, of moments between
        two frames (spec section 9.4). UsageError for a denominator of 2^32 or more."""
        levels = self.embedding
        embeddings = np.empty((len(positions), *levels.shape[1:]), np.uint8)
        for out, position in zip(embeddings, positions, strict=True):
            n = math.floor(position)
            p, q = (position - n).numerator, position.denominator
            if q >= 1 << 32:
                raise UsageError(f"position {position} is finer than 1 / (2^32 - 1) of a frame")
            if p:
                out[...] = (levels[n] * np.int64(q - p) + levels[n + 1] * np.int64(p) + q // 2) // q
            else:
                out[...] = levels[n]
        return embeddings

    def input_zero_points(self) -> list[int]:
        """The zero point of each layer's input levels."""
        zero_points, zero = [], self.embed_zero_point
        for spec, layer in zip(self.specs, self.layers, strict=True):
            zero_points.append(zero)
            if spec.kind in ("stem", "up"):
                zero = layer.requant.zero_point
        return zero_points


def accumulator_bound(layer: QuantizedLayer, spec: LayerSpec, zero_point: int) -> int:
    """The largest magnitude any partial sum of the layer can reach, for any input levels."""
    weight = np.abs(layer.weight.astype(np.int64)).reshape(len(layer.weight), -1)
    products = weight.sum(axis=1) * max(zero_point, 255 - zero_point)
    return int((products + np.abs(layer.accumulator_bias(spec))).max())


def check_accumulators(segment: QuantizedSegment) -> None:
    """FileError if the segment breaks the conformance rule of spec section 9.1, which makes
    float32, int8 and float64 arithmetic agree."""
    zero_points = segment.input_zero_points()
    for spec, layer, zero_point in zip(segment.specs, segment.layers, zero_points, strict=True):
        bound = accumulator_bound(layer, spec, zero_point)
        if bound >= ACCUMULATOR_LIMIT:
            raise FileError(f"accumulator bound {bound} is not below 2^24", element=spec.name)


def embedding_residuals(
    embedding: np.ndarray, zero_point: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Temporal prediction: (first frame [C, h, w], [T - 1, h, w] per channel), int32."""
    levels = embedding.astype(np.int32)
    deltas = np.diff(levels, axis=0)
    return levels[0] - zero_point, [deltas[:, c] for c in range(levels.shape[1])]


def pieces(
    segment: QuantizedSegment, header: SegmentHeader
) -> list[tuple[str, range_coding.Table, np.ndarray]]:
    """The range-coded levels in coding order: (name, table, int32 levels)."""
    first, deltas = embedding_residuals(segment.embedding, segment.embed_zero_point)
    embedding = [first, *deltas][: len(header.embed_tables)]
    coded = [
        ("embedding", table, levels)
        for table, levels in zip(header.embed_tables, embedding, strict=True)
    ]
    for spec, layer, head in zip(segment.specs, segment.layers, header.layers, strict=True):
        coded.append((f"{spec.name}.weight", head.weight_table, layer.weight))
        coded.append((f"{spec.name}.bias", head.bias_table, layer.bias))
    return coded


def header_of(segment: QuantizedSegment) -> SegmentHeader:
    """The segment's header with the cheapest tables; coded_words is filled in by `write`."""
    first, deltas = embedding_residuals(segment.embedding, segment.embed_zero_point)
    embedding = [first, *deltas] if segment.frame_count > 1 else [first]
    return SegmentHeader(
        segment.first_frame,
        segment.frame_count,
        segment.model,
        segment.embed_zero_point,
        tuple(range_coding.fit_table(levels) for levels in embedding),
        tuple(
            LayerHeader(
                range_coding.fit_table(layer.weight),
                range_coding.fit_table(layer.bias),
                layer.requant,
            )
            for layer in segment.layers
        ),
        coded_words=0,
    )


def with_first_frame(payload: bytes, first_frame: int) -> bytes:
    """The payload of the same frames, to begin at frame `first_frame` of a video."""
    w = ByteWriter()
    w.u32(first_frame)
    return w.getvalue() + payload[len(w.getvalue()) :]


def write(segment: QuantizedSegment) -> bytes:
    """The payload of a SEGM chunk. FileError if the segment breaks the conformance rule."""
    check_accumulators(segment)
    header = header_of(segment)
    coded = range_coding.encode([(table, levels) for _, table, levels in pieces(segment, header)])
    header = SegmentHeader(
        header.first_frame,
        header.frame_count,
        header.model,
        header.embed_zero_point,
        header.embed_tables,
        header.layers,
        coded_words=len(coded) // 4,
    )
    w = ByteWriter()
    headers.write_segment_header(w, header, segment.specs)
    w.raw(coded)
    w.raw(segment.frame_crcs.astype("<u4").tobytes())
    return w.getvalue()


def read_header(
    r: ByteReader, video: VideoHeader, level: profiles.Level
) -> tuple[SegmentHeader, tuple[LayerSpec, ...]]:
    """Parses a segment's header and checks it against the level; nothing large has been allocated
    yet.

    FileError if it breaks a rule, LimitError if it exceeds the level.
    """
    start = headers.read_segment_start(r)
    _, frame_count, model = start
    specs = video.layers(model)
    profiles.check_segment(level, specs, frame_count)
    return headers.read_segment_header(r, start, specs), specs


def read(
    payload: bytes | memoryview, video: VideoHeader, level: profiles.Level
) -> QuantizedSegment:
    """Inverse of `write`: parse, validate against the level, then allocate.

    video: of the file that holds the segment. Raises FileError and LimitError.
    """
    r = ByteReader(payload)
    header, specs = read_header(r, video, level)
    return read_levels(r, header, specs)


def read_levels(
    r: ByteReader, header: SegmentHeader, specs: tuple[LayerSpec, ...]
) -> QuantizedSegment:
    """What follows the header that `read_header` gave, to the payload's end. Raises FileError."""
    coded = r.raw(header.coded_words * 4, "coded_levels")
    crcs = r.raw(header.frame_count * 4, "frame_crc")
    r.end("segment")
    decoder = range_coding.LevelDecoder(coded)
    embedding = _read_embedding(decoder, header, specs[0])
    decoded = []
    for spec, head in zip(specs, header.layers, strict=True):
        weight = decoder.decode(head.weight_table, spec.weights).reshape(spec.weight_shape)
        bias = decoder.decode(head.bias_table, spec.out_channels)
        decoded.append(QuantizedLayer(weight, bias, head.requant))
    decoder.end()
    segment = QuantizedSegment(
        header.first_frame,
        header.model,
        specs,
        tuple(decoded),
        embedding,
        header.embed_zero_point,
        np.frombuffer(crcs, "<u4").astype(np.uint32),
    )
    check_accumulators(segment)
    return segment


def _read_embedding(
    decoder: range_coding.LevelDecoder, header: SegmentHeader, stem: LayerSpec
) -> np.ndarray:
    shape = (stem.in_channels, stem.height, stem.width)
    residual = np.empty((header.frame_count, *shape), np.int32)
    first, *rest = header.embed_tables
    residual[0] = decoder.decode(first, residual[0].size).reshape(shape) + header.embed_zero_point
    for channel, table in enumerate(rest):
        deltas = decoder.decode(table, residual[1:, channel].size)
        residual[1:, channel] = deltas.reshape(residual[1:, channel].shape)
    levels = np.cumsum(residual, axis=0, dtype=np.int32)  # below 2048 * 8191
    if levels.min() < 0 or levels.max() > 255:
        raise FileError("a level is not in 0..255", element="embedding")
    return levels.astype(np.uint8)


def decoding_work(header: SegmentHeader, specs: tuple[LayerSpec, ...]) -> int:
    """About how many numbers `read` computes, of levels and of frequency tables, at a few
    nanoseconds each. A segment of a few hundred bytes may declare millions of them."""
    stem = specs[0]
    levels = header.frame_count * stem.in_channels * stem.height * stem.width
    levels += sum(spec.weights + spec.out_channels for spec in specs)
    tables = [table for h in header.layers for table in (h.weight_table, h.bias_table)]
    tables += header.embed_tables
    return 8 * levels + sum(WORK_PER_TENSOR + 2 * table.max_level for table in tables)


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of one SEGM payload by what they are spent on; they add up to the payload."""

    header: int
    embedding: float
    layers: dict[str, float]  # weights and biases by the layer's name
    coder: float  # termination and rounding of the range coder
    frame_crcs: int
    undivided: int = 0  # all that is range-coded, where the levels were not decoded to tell


def usage(payload: bytes | memoryview, segment: QuantizedSegment, header: SegmentHeader) -> Usage:
    """What the bytes of `segment`'s payload are spent on, tensor by tensor."""
    spent: dict[str, float] = {}
    for name, table, levels in pieces(segment, header):
        name = name.rpartition(".")[0] or name
        spent[name] = spent.get(name, 0.0) + range_coding.cost_bits(table, levels) / 8
    embedding = spent.pop("embedding")
    coded, frame_crcs = 4 * header.coded_words, 4 * header.frame_count
    return Usage(
        header=len(payload) - coded - frame_crcs,
        embedding=embedding,
        layers=spent,
        coder=coded - embedding - sum(spent.values()),
        frame_crcs=frame_crcs,
    )


def undivided_usage(payload: bytes | memoryview, header: SegmentHeader) -> Usage:
    """The same as far as the header alone tells."""
    coded, frame_crcs = 4 * header.coded_words, 4 * header.frame_count
    return Usage(len(payload) - coded - frame_crcs, 0.0, {}, 0.0, frame_crcs, coded)
