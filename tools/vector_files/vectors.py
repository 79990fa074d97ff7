"""Small `.hnv` files made by hand: networks of random or zero levels, and ways to damage a file.

For the conformance vectors and the tests. Builders only: nothing here is checked but by `segment`
and `container` themselves.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from hnervcodec.bitstream import container, headers, range_coding, segment
from hnervcodec.bitstream import levels as profiles
from hnervcodec.bitstream.architecture import ModelConfig, StageConfig
from hnervcodec.bitstream.fields import ByteWriter, crc32
from hnervcodec.bitstream.headers import Requant, SegmentHeader, VideoHeader
from hnervcodec.bitstream.range_coding import Table
from hnervcodec.bitstream.reader import Reader
from hnervcodec.bitstream.segment import QuantizedLayer, QuantizedSegment
from hnervcodec.planes import plane_bytes, unpack
from hnervcodec.synthesis.network import Synthesis

SMALL_MODEL = ModelConfig(3, 5, (StageConfig(3, 1, 6, 0), StageConfig(2, 3, 4, 2)), 3)
TINY_MODEL = ModelConfig(2, 3, (StageConfig(2, 3, 3, 1),), 1)
WEIGHTS_FIT_ANY_LAYER = 2**23.5 / 255  # sum of magnitudes that no zero point lets overflow


# ---------------------------------------------------------------- parts


def make_video(
    width: int = 22, height: int = 14, chroma: int = 1, depth: int = 8, **more: Any
) -> VideoHeader:
    return VideoHeader(width, height, chroma, Fraction(30000, 1001), depth, **more)


def with_checksums(part: QuantizedSegment, video: VideoHeader) -> QuantizedSegment:
    """`part` with the CRC of every frame it decodes to."""
    packed = Synthesis(part, video, path="float64").packed(range(part.frame_count))
    crcs = [
        crc32(plane_bytes(unpack(p, video.chroma_format, video.width, video.height)))
        for p in packed
    ]
    return replace(part, frame_crcs=np.array(crcs, np.uint32))


def random_segment(
    video: VideoHeader,
    frames: int,
    seed: int = 0,
    model: ModelConfig = SMALL_MODEL,
    first_frame: int = 0,
    weight: int = 20,
) -> QuantizedSegment:
    """A valid segment of random levels that give varied samples; `weight`: largest magnitude."""
    rng = np.random.RandomState(seed)  # whose numbers stay the same in every numpy
    specs = video.layers(model)
    layers = []
    for spec in specs:
        head = spec.kind == "head"
        limit = min(weight, int(WEIGHTS_FIT_ANY_LAYER / (spec.weights // spec.weight_shape[0])))
        requant = Requant(
            bias_shift=3,
            shift=2 if head else int(rng.randint(0, 6)),
            multiplier=255 * 16 if head else int(rng.randint(200, 4000)),
            gain=0 if head else int(rng.randint(500, 4000)),
            zero_point=int(rng.randint(0, 60)) if spec.kind in ("stem", "up") else 0,
        )
        bias = rng.randint(-300, 300, spec.out_channels) + (1000 if head else 0)
        levels = rng.randint(-limit, limit + 1, spec.weight_shape)
        layers.append(QuantizedLayer(levels.astype(np.int32), bias.astype(np.int32), requant))
    shape = (frames, specs[0].in_channels, specs[0].height, specs[0].width)
    part = QuantizedSegment(
        first_frame,
        model,
        specs,
        tuple(layers),
        rng.randint(100, 156, shape).astype(np.uint8),
        128,
        np.zeros(frames, np.uint32),
    )
    return with_checksums(part, video)


def fitted_like(part: QuantizedSegment, video: VideoHeader) -> QuantizedSegment:
    """`part` with weights spread as a fit at a low rate leaves them: a few large ones, a standard
    deviation of about 9."""
    rng = np.random.RandomState(0)
    layers = tuple(
        replace(
            layer,
            weight=np.clip(np.rint(rng.laplace(0, 6.7, layer.weight.shape)), -127, 127).astype(
                np.int32
            ),
        )
        for layer in part.layers
    )
    return with_checksums(replace(part, layers=layers), video)


def zero_segment(video: VideoHeader, frames: int, model: ModelConfig) -> QuantizedSegment:
    """All weights, biases and embeddings zero: large networks in small files."""
    specs = video.layers(model)
    layers = tuple(
        QuantizedLayer(
            np.zeros(spec.weight_shape, np.int32),
            np.zeros(spec.out_channels, np.int32),
            Requant(0, 0, 1, *((0, 0) if spec.kind == "head" else (1, 0))),
        )
        for spec in specs
    )
    shape = (frames, specs[0].in_channels, specs[0].height, specs[0].width)
    black = np.zeros(sum(map(len, _black(video))), np.uint8).tobytes()
    return QuantizedSegment(
        0,
        model,
        specs,
        layers,
        np.zeros(shape, np.uint8),
        0,
        np.full(frames, crc32(black), np.uint32),
    )


def _black(video: VideoHeader) -> list[bytes]:
    packed = np.zeros((video.packed_channels, -(-video.height // 2), -(-video.width // 2)))
    dtype = np.uint8 if video.bit_depth == 8 else np.uint16
    planes = unpack(packed.astype(dtype), video.chroma_format, video.width, video.height)
    return [plane_bytes((plane,)) for plane in planes]


def with_layer(part: QuantizedSegment, number: int, **changes: Any) -> QuantizedSegment:
    """`requant` fields of one layer, or its weight or bias, replaced."""
    arrays = {key: changes.pop(key) for key in ("weight", "bias") if key in changes}
    layers = list(part.layers)
    requant = replace(layers[number].requant, **changes)
    layers[number] = replace(layers[number], requant=requant, **arrays)
    return replace(part, layers=tuple(layers))


def write_payload(
    part: QuantizedSegment,
    change: Callable[[SegmentHeader], SegmentHeader] = lambda header: header,
    *,
    tables: Callable[[Table], Table] = lambda table: table,
    extra_words: int = 0,
) -> bytes:
    """A SEGM payload with another header than the encoder's: `tables` change the code, `change`
    only what the header says. Nothing is checked."""
    header = segment.header_of(part)
    header = replace(
        header,
        embed_tables=tuple(map(tables, header.embed_tables)),
        layers=tuple(
            replace(
                head, weight_table=tables(head.weight_table), bias_table=tables(head.bias_table)
            )
            for head in header.layers
        ),
    )
    pieces = [(table, levels) for _, table, levels in segment.pieces(part, header)]
    coded = range_coding.encode(pieces) + bytes(4 * extra_words)
    w = ByteWriter()
    header = change(replace(header, coded_words=len(coded) // 4))
    headers.write_segment_header(w, header, part.specs)
    return w.getvalue() + coded + part.frame_crcs.astype("<u4").tobytes()


# ---------------------------------------------------------------- files


class _Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


def make_file(
    video: VideoHeader,
    parts: Sequence[QuantizedSegment | tuple[bytes, int]],
    level: int = 10,
    streamed: bool = False,
) -> bytes:
    """A whole file of segments, or of payloads and their numbers of frames."""
    file = _Pipe() if streamed else io.BytesIO()
    writer = container.Writer(file, video, profiles.LEVELS[level])
    for part in parts:
        if isinstance(part, tuple):
            writer.segment(*part)
        else:
            writer.segment(segment.write(part), part.frame_count)
    writer.finish()
    return file.getvalue()


Chunks = list[tuple[bytes, bytes]]  # type, payload


def split(data: bytes) -> tuple[bytes, Chunks]:
    """Prefix and chunks of a sound file."""
    reader = Reader(io.BytesIO(data))
    return data[:24], [(chunk.kind, reader.payload(chunk)) for chunk in reader.chunks()]


def join(prefix: bytes, chunks: Chunks, *, relocate: bool = True) -> bytes:
    """The inverse of `split`, with right checksums and, unless `relocate` is off, right offsets in
    the index and the end chunk."""
    prefix = prefix[:20] + struct.pack("<I", crc32(prefix[:20]))
    places, position = [], len(prefix)
    for _, payload in chunks:
        places.append(position)
        position += 20 + len(payload)
    segments = [place for (kind, _), place in zip(chunks, places, strict=True) if kind == b"SEGM"]
    parts: list[bytes | bytearray] = [prefix]
    for serial, (kind, payload) in enumerate(chunks):
        fixed = bytearray(payload)
        if relocate and kind == b"INDX":
            for n, place in enumerate(segments[: max(len(fixed) - 4, 0) // 18]):
                struct.pack_into("<Q", fixed, 4 + 18 * n, place)
        if relocate and kind == b"HEND" and len(fixed) >= 8:
            index = [place for (k, _), place in zip(chunks, places, strict=True) if k == b"INDX"]
            struct.pack_into("<Q", fixed, 0, index[0] if index else 0)
        header = kind + struct.pack("<II", len(fixed), serial)
        parts += [header, struct.pack("<I", crc32(header)), fixed, struct.pack("<I", crc32(fixed))]
    return b"".join(bytes(part) for part in parts)


def poke(data: bytes, offset: int, new: bytes) -> bytes:
    assert offset >= 0 and offset + len(new) <= len(data)
    return data[:offset] + new + data[offset + len(new) :]


def repair(data: bytes) -> bytes:
    """All checksums made right again, as a malicious writer would."""
    fixed = bytearray(data)
    fixed[20:24] = struct.pack("<I", crc32(bytes(fixed[:20])))
    offset = 24
    while offset + 20 <= len(fixed):
        length = struct.unpack_from("<I", fixed, offset + 4)[0]
        fixed[offset + 12 : offset + 16] = struct.pack("<I", crc32(bytes(fixed[offset:][:12])))
        end = offset + 16 + length
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = struct.pack("<I", crc32(bytes(fixed[offset + 16 : end])))
        offset = end + 4
    return bytes(fixed)
