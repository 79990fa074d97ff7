"""See tools/make_vectors."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import beside
import numpy as np
from vectors import (
    SMALL_MODEL,
    TINY_MODEL,
    join,
    make_file,
    make_video,
    poke,
    random_segment,
    repair,
    split,
    with_checksums,
    with_layer,
    write_payload,
    zero_segment,
)

from hnervcodec.bitstream import headers, range_coding, segment
from hnervcodec.bitstream.architecture import ModelConfig, StageConfig
from hnervcodec.bitstream.fields import ByteWriter, crc32
from hnervcodec.bitstream.headers import SegmentHeader, VideoHeader
from hnervcodec.bitstream.range_coding import Table
from hnervcodec.bitstream.segment import QuantizedSegment
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.planes import plane_bytes
from hnervcodec.synthesis.tables import gelu_table

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "spec/vectors"


@dataclass(frozen=True)
class Vector:
    """One file; `error` is the class of a faulty one: "damaged", "unsupported" or "limit".

    `between`: numbers n, p and q of frames between frames that its description has, too.
    """

    name: str
    proves: str
    data: bytes
    error: str | None = None
    between: tuple[tuple[int, int, int], ...] = ()


# ---------------------------------------------------------------- valid vectors


def valid() -> Iterator[Vector]:
    def of(name: str, proves: str, video: VideoHeader, *parts: Any, **more: Any) -> Vector:
        return Vector(name, proves, make_file(video, list(parts), **more))

    for chroma, word in enumerate(("400", "420", "422", "444")):
        for depth in (8, 9, 10, 11, 12):
            video = make_video(chroma=chroma, depth=depth)
            part = random_segment(video, 2, seed=10 * chroma + depth)
            yield of(f"yuv{word}-{depth}bit", f"4:{word[1]}:{word[2]}, {depth} bits", video, part)
        video = make_video(21, 13, chroma)
        part = random_segment(video, 2, seed=40 + chroma)
        yield of(f"odd-size-{word}", "chroma of an odd size is rounded up", video, part)
        video = make_video(1, 1, chroma)
        part = random_segment(video, 2, seed=50 + chroma)
        yield of(f"one-sample-{word}", "the smallest frame, nearly all of it padding", video, part)
    yield from valid_structure(of)
    yield Vector(
        "beside",
        "rotation, light levels, times and sound; the frames are those without them",
        beside.file_with(beside.EXTRAS),
    )
    video = make_video()
    parts = random_segment(video, 3, seed=6), random_segment(video, 2, seed=7, first_frame=3)
    yield replace(
        of("between", "frames between frames, of two segments", video, *parts),
        between=((0, 1, 2), (0, 2, 3), (1, 1, 2**32 - 1), (1, 2**32 - 2, 2**32 - 1), (3, 5, 7)),
    )
    yield from valid_entropy(of)
    yield from valid_synthesis(of)
    yield from valid_limits(of)


def example() -> Vector:
    """The worked example of the specification: one grey frame of 2x2 samples."""
    video = make_video(2, 2, 0, frame_count=1)
    video = replace(video, frame_rate=Fraction(25))
    part = zero_segment(video, 1, ModelConfig(1, 1, (StageConfig(1, 1, 1, 0),), 1))
    part = replace(part, embedding=np.full_like(part.embedding, 131), embed_zero_point=128)
    arrays: list[tuple[list[int], list[int]]] = [([5], [-2]), ([-3], [4]), ([9, 0, 4, -7], [6] * 4)]
    for n, (weight, bias) in enumerate(arrays):
        shape = part.layers[n].weight.shape
        part = with_layer(
            part,
            n,
            weight=np.array(weight, np.int32).reshape(shape),
            bias=np.array(bias[: len(part.layers[n].bias)], np.int32),
            bias_shift=n,
        )
    part = with_layer(part, 0, shift=1, multiplier=20000, gain=3000, zero_point=20)
    part = with_layer(part, 1, shift=2, multiplier=60000, gain=4000, zero_point=16)
    part = with_layer(part, 2, multiplier=30000)
    proves = "the worked example of section 15"
    return Vector("example", proves, make_file(video, [with_checksums(part, video)]))


def valid_structure(of: Callable[..., Vector]) -> Iterator[Vector]:
    yield example()
    video = make_video()
    part = random_segment(video, 3, seed=1)
    yield of("one-frame", "no tables of temporal differences", video, random_segment(video, 1))
    networks = [
        random_segment(video, n + 1, seed=n, model=model, first_frame=n * (n + 1) // 2)
        for n, model in enumerate((SMALL_MODEL, TINY_MODEL, SMALL_MODEL, TINY_MODEL))
    ]
    yield of("segments", "four segments of 1 to 4 frames and two networks", video, *networks)
    yield of("streamed", "VHDR.frame_count is 0, the index has it", video, part, streamed=True)
    yield of("level-60", "a higher level than the file needs", video, part, level=60)
    described = make_video(
        depth=10,
        chroma_siting=2,
        full_range=True,
        colour_primaries=9,
        transfer_characteristics=16,
        matrix_coefficients=9,
        sample_aspect=(4, 3),
    )
    part10 = random_segment(described, 1)
    yield of("described", "siting, range, colours, aspect", described, part10)
    whole = make_file(video, [part])
    prefix, chunks = split(whole)
    flags = poke(poke(prefix, 9, b"\xff"), 16, b"\xff\xff\xff\xff")
    yield Vector(
        "future-minor",
        "minor_version and compatible_flags of a later writer are no obstacle",
        join(flags, chunks),
    )
    note = (b"noTE", b"an ancillary chunk")
    for name, at in (("front", 1), ("middle", 2), ("back", 3)):
        spread = [*chunks[:at], note, (b"zzzz", b""), *chunks[at:]]
        yield Vector(
            f"ancillary-{name}",
            "unknown ancillary chunks, one of them empty, are skipped",
            join(prefix, spread),
        )


def valid_entropy(of: Callable[..., Vector]) -> Iterator[Vector]:
    video = make_video(8, 6)
    part = random_segment(video, 3, seed=4, model=TINY_MODEL)

    def sparse(keep: int) -> QuantizedSegment:
        changed = part
        for n, layer in enumerate(part.layers):
            mask = np.arange(layer.weight.size).reshape(layer.weight.shape) % keep == 0
            changed = with_layer(changed, n, weight=layer.weight * mask)
        return with_checksums(changed, video)

    yield of("pruned", "nine weights of ten are zero", video, sparse(10))
    still = replace(part, embedding=np.repeat(part.embedding[:1], 3, axis=0))
    still = with_checksums(still, video)
    yield of("no-symbols-in-a-tensor", "max_level 0: the differences take no symbols", video, still)
    yield of(
        "nothing-coded",
        "no symbol at all: the coder is initialized and at its end",
        video,
        zero_segment(video, 2, TINY_MODEL),
    )
    signs = with_checksums(
        with_layer(part, 1, weight=np.sign(part.layers[1].weight).astype(np.int32)), video
    )
    yield of("three-symbols", "max_level 1, the smallest alphabet", video, signs)
    for name, table in (
        ("rare-zeros", lambda t: replace(t, zero=0, decay=191)),
        ("frequent-zeros", lambda t: replace(t, zero=255, decay=0)),
        ("widest-alphabet", lambda t: replace(t, max_level=8191) if t.max_level else t),
        ("steepest-widest", lambda t: Table(8191, 255, 0) if t.max_level else t),
    ):
        proves = "tables no encoder would choose: frequencies at the ends of their range"
        yield of(name, proves, video, (write_payload(part, tables=table), 3))
    for decay in range(0, 192, 16):
        yield of(
            f"decay-{decay}",
            "the exponent of the ratio",
            video,
            (write_payload(part, tables=partial(replace, decay=decay)), 3),
        )
    pixel = make_video(2, 2)
    for name, carry in (("carry", True), ("no-carry", False)):
        yield of(
            f"range-coder-{name}",
            "a run of words that one later symbol decides",
            pixel,
            (carry_payload(pixel, carry), 1),
        )
    yield of(
        "coded-extra-word",
        "a needless word 0 behind the last level, which decoders cannot see",
        video,
        (write_payload(part, extra_words=1), 3),
    )


def carry_payload(video: VideoHeader, carry: bool) -> bytes:
    """Stem weights whose code stays around a multiple of 2^32 for 130 symbols."""
    table, count = Table(3, 40, 60), 200
    levels = _steered(table, count, carry).reshape(1, count, 1, 1).astype(np.int32)
    part = zero_segment(video, 1, ModelConfig(count, 1, (StageConfig(1, 1, 1, 0),), 1))
    part = with_layer(part, 0, weight=levels, shift=8, multiplier=900)
    part = with_checksums(part, video)
    return write_payload(part, tables=lambda t: table if t.max_level else t)


def _steered(table: Table, count: int, carry: bool) -> np.ndarray:
    """Levels whose range coder cannot write a word from the 20th to the 150th of them: the interval
    [low, low + width) keeps a multiple of 2^32 inside. Then it ends above it (`carry`) or below."""
    frequencies = range_coding.frequencies(table)
    cdf = [0, *np.cumsum(frequencies).tolist()]
    rng = np.random.RandomState(1)
    low, width, target, levels = 0, 2**64 - 1, 0, []  # low: of all words so far
    for n in range(count):
        scale = width >> 24
        if n == 20:
            target = (low + width // 2) >> 32 << 32
        around = [
            i
            for i in range(len(frequencies))
            if low + scale * cdf[i] < target < low + scale * cdf[i + 1]
        ]
        if around and n < 150:
            i = around[0]
        elif around:
            i = len(frequencies) - 1 if carry else 0
        else:
            i = int(rng.randint(len(frequencies)))
        low, width = low + scale * cdf[i], scale * (cdf[i + 1] - cdf[i])
        if width < 2**32:
            low, width, target = low << 32, width << 32, target << 32
        levels.append(i - table.max_level)
    return np.array(levels)


def valid_synthesis(of: Callable[..., Vector]) -> Iterator[Vector]:
    video = make_video()
    part = random_segment(video, 2, seed=5)
    steep = part
    for n, layer in enumerate(part.layers):
        gain = {} if part.specs[n].kind == "head" else {"gain": 65535}
        steep = with_layer(steep, n, shift=0, multiplier=65535, weight=3 * layer.weight, **gain)
    yield of(
        "clamped",
        "every clip is reached: table indices, GELU's table, output levels, samples",
        video,
        with_checksums(steep, video),
    )
    pixel = make_video(2, 2)
    yield of(
        "clip-hidden", "the first index below -2048 counts as -2048", pixel, clipped_segment(pixel)
    )
    yield of(
        "clip-head",
        "the first index above 8191 counts as 8191",
        pixel,
        clipped_segment(pixel, head=True),
    )
    flat = part
    for n, layer in enumerate(part.layers):
        flat = with_layer(flat, n, shift=23, bias_shift=0, bias=np.sign(layer.bias))
    yield of(
        "shift-23",
        "the largest shift: every index is -1, 0 or 1",
        video,
        with_checksums(flat, video),
    )
    coarse = part
    for n, layer in enumerate(part.layers):
        bias = np.sign(layer.bias).astype(np.int32)
        coarse = with_layer(coarse, n, bias_shift=23, bias=bias, weight=layer.weight // 4)
    yield of("bias-shift-23", "biases of +-2^23", video, with_checksums(coarse, video))
    for zero in (0, 255):
        moved = replace(part, embed_zero_point=zero)
        for n, spec in enumerate(part.specs):
            if spec.kind in ("stem", "up"):
                moved = with_layer(moved, n, zero_point=zero)
        yield of(
            f"zero-point-{zero}",
            "every zero point at an end of its range",
            video,
            with_checksums(moved, video),
        )
    for sign in (1, -1):
        yield of(
            f"accumulator-bound-{'high' if sign > 0 else 'low'}",
            "a sum reaches 2^24 - 1, the largest allowed" if sign > 0 else "a sum reaches 1 - 2^24",
            make_video(2, 2),
            bounded_segment(make_video(2, 2), sign, 0),
        )
    wide = ModelConfig(24, 40, (StageConfig(2, 3, 33, 0), StageConfig(2, 3, 17, 3)), 3)
    yield of(
        "wide",
        "long sums of weights up to 127",
        make_video(40, 24),
        random_segment(make_video(40, 24), 1, model=wide, weight=127),
    )
    for kernel in (1, 3, 5, 7):
        model = ModelConfig(2, 3, (StageConfig(2, kernel, 3, 1),), kernel)
        yield of(
            f"kernel-{kernel}",
            "kernels of this size, larger than their input too",
            video,
            random_segment(video, 1, model=model),
        )
    for stride in range(1, 9):
        model = ModelConfig(2, 3, (StageConfig(stride, 3, 3, 0),), 1)
        yield of(
            f"stride-{stride}",
            "the pixel shuffle by this factor",
            video,
            random_segment(video, 1, model=model),
        )
    deep = ModelConfig(1, 1, tuple(StageConfig(1, 1, 2, n % 3) for n in range(8)), 1)
    yield of(
        "eight-stages",
        "as many stages as there can be",
        video,
        random_segment(video, 1, model=deep),
    )
    long = ModelConfig(2, 3, (StageConfig(2, 3, 3, 15),), 1)
    yield of(
        "residuals-15",
        "as many residual layers as a stage can have",
        video,
        random_segment(video, 1, model=long),
    )


def clipped_segment(video: VideoHeader, head: bool = False) -> QuantizedSegment:
    """One frame in which the table index one beyond its range would change the samples: the head's
    8192, or the stem's -2049, where G has another value."""
    part = zero_segment(video, 1, ModelConfig(1, 1, (StageConfig(1, 1, 1, 0),), 1))
    if head:
        bias = np.full(6, 8192 // 4, np.int32)
        return with_checksums(with_layer(part, 2, bias=bias, bias_shift=2, multiplier=4), video)
    table = gelu_table()
    multiplier = next(
        m
        for m in range(1024, 2048)
        if table[-((-2048 * m + 512) >> 10)] != table[-((-2049 * m + 512) >> 10)]
    )
    part = with_layer(
        part, 0, bias=np.array([-2049], np.int32), multiplier=multiplier, gain=65535, zero_point=255
    )
    one = np.ones((1, 1, 1, 1), np.int32)
    part = with_layer(part, 1, weight=-one, multiplier=4096, gain=65535)
    weight = np.ones((6, 1, 1, 1), np.int32)
    return with_checksums(with_layer(part, 2, weight=weight, multiplier=65535), video)


def bounded_segment(video: VideoHeader, sign: int, excess: int) -> QuantizedSegment:
    """One frame whose stem's sum, with bias and rounding offset, is sign * (2^24 - 1 + excess)."""
    part = zero_segment(video, 1, ModelConfig(9, 1, (StageConfig(1, 1, 1, 0),), 1))
    total, rounding = 65784, 1 << 11
    bias = sign * (2**24 - 1 - 255 * total + excess) - rounding
    weight = np.array([8191] * 8 + [total - 8 * 8191], np.int32).reshape(1, 9, 1, 1) * sign
    part = with_layer(part, 0, weight=weight, bias=np.array([bias], np.int32))
    part = with_layer(part, 0, shift=12, multiplier=1000, gain=4000, zero_point=100)
    part = with_layer(part, 1, weight=np.full((1, 1, 1, 1), 9, np.int32), gain=500, multiplier=99)
    part = with_layer(
        part,
        2,
        weight=np.arange(-2, 4, dtype=np.int32).reshape(6, 1, 1, 1),
        bias=np.full(6, 90, np.int32),
        multiplier=65535,
    )
    part = replace(part, embedding=np.full_like(part.embedding, 255))
    return with_checksums(part, video)


def valid_limits(of: Callable[..., Vector]) -> Iterator[Vector]:
    video = make_video(2, 2)
    yield of(
        "limit-weights",
        "exactly the weights that level 10 allows",
        video,
        zero_segment(video, 1, model_of_weights(1 << 18, video)),
    )
    many = ModelConfig(1024, 1, (StageConfig(1, 1, 1, 0),), 1)
    yield of(
        "limit-frames-embedding",
        "exactly level 10's frames and embedding values",
        video,
        zero_segment(video, 2048, many),
    )
    wide = make_video(4096, 16)
    model = ModelConfig(1, 1, (StageConfig(8, 1, 1, 0),), 1)
    yield of(
        "limit-frame",
        "exactly level 10's width and luma samples",
        wide,
        zero_segment(wide, 1, model),
    )
    square = make_video(256, 256)
    model = ModelConfig(1, 1, (StageConfig(8, 1, 64, 0),), 1)
    yield of(
        "limit-features",
        "a layer writes exactly what level 10 allows",
        square,
        zero_segment(square, 1, model),
    )
    model = ModelConfig(1, 55, (StageConfig(1, 3, 51, 10),), 3)
    yield of(
        "limit-macs",
        "exactly level 10's multiplications per frame, and weights",
        square,
        zero_segment(square, 1, model),
    )


def model_of_weights(weights: int, video: VideoHeader) -> ModelConfig:
    """A network of exactly so many weights."""
    for stem in range(1, 1025):
        for kernel in (1, 3):
            for embed in range(1, 129):
                left = weights - embed * stem
                each = stem * kernel**2 + video.packed_channels
                if 0 < left <= 1024 * each and left % each == 0:
                    return ModelConfig(embed, stem, (StageConfig(1, kernel, left // each, 0),), 1)
    raise ValueError(f"no simple network has {weights} weights")


# ---------------------------------------------------------------- faulty vectors


def faulty() -> Iterator[Vector]:
    video = make_video(8, 6)
    parts = [
        random_segment(video, 2, seed=1, model=TINY_MODEL),
        random_segment(video, 1, seed=2, model=TINY_MODEL, first_frame=2),
    ]
    data = make_file(video, list(parts))
    yield from faulty_bytes(data)
    yield from faulty_prefix(data)
    yield from faulty_chunks(data)
    for name, proves, *_ in beside.FAULTS:
        yield Vector(name, proves, beside.faulty_file(name), "damaged")
    for name, proves, changed in beside.more_faults():
        yield Vector(name, proves, changed, "damaged")
    yield from faulty_index(data)
    yield from faulty_video_header(data)
    yield from faulty_segment(video, parts[0])
    yield from faulty_limits()


def faulty_bytes(data: bytes) -> Iterator[Vector]:
    places, position = [("prefix", 24)], 24
    _, chunks = split(data)
    yield Vector("empty", "no byte at all", b"", "damaged")
    for size in (4, 8, 12, 20, 23):
        yield Vector(f"cut-{size}", "the file ends inside the prefix", data[:size], "damaged")
    counts: dict[bytes, int] = {}
    for kind, payload in chunks:
        counts[kind] = counts.get(kind, 0) + 1
        name = f"{kind.decode().lower()}{counts[kind]}"
        places += [
            (f"{name}-type", position + 4),
            (f"{name}-header", position + 16),
            (f"{name}-half", position + 16 + len(payload) // 2),
            (f"{name}-payload", position + 16 + len(payload)),
            (f"{name}-crc", position + 20 + len(payload) - 1),
            (f"{name}", position + 20 + len(payload)),
        ]
        for what, at in (
            ("header_crc", position + 12),
            ("payload_crc", position + 16 + len(payload)),
        ):
            wrong = poke(data, at, bytes([data[at] ^ 1]))
            yield Vector(f"{name}-{what}", f"a wrong {what}", wrong, "damaged")
        at = position + 16 + len(payload) // 2
        wrong = poke(data, at, bytes([data[at] ^ 0x10]))
        yield Vector(f"{name}-flipped", "one flipped bit in a payload", wrong, "damaged")
        position += 20 + len(payload)
    for name, size in places[:-1]:
        yield Vector(f"cut-after-{name}", "the file ends here", data[:size], "damaged")
    yield Vector("trailing-byte", "a byte follows HEND", data + b"\0", "damaged")
    yield Vector("twice", "a whole file follows HEND", data + data, "damaged")
    text = data.replace(b"\r\n", b"\n")
    yield Vector("text-mode", "a transfer turned CR LF into LF", text, "damaged")
    yield Vector("png", "another format", b"\x89PNG\r\n\x1a\n" + data[8:], "damaged")


def faulty_prefix(data: bytes) -> Iterator[Vector]:
    prefix, chunks = split(data)
    wrong = poke(data, 20, bytes([data[20] ^ 1]))
    yield Vector("prefix_crc", "a wrong prefix_crc", wrong, "damaged")
    for name, offset, new in (
        ("major_version", 8, b"\x02"),
        ("profile", 10, b"\x01"),
        ("level", 11, b"\x0b"),
        ("incompatible_flags", 12, b"\x00\x00\x00\x80"),
    ):
        changed = join(poke(prefix, offset, new), chunks)
        yield Vector(f"unknown-{name}", f"{name} of a later version", changed, "unsupported")


def faulty_chunks(data: bytes) -> Iterator[Vector]:
    prefix, chunks = split(data)
    header, first, second, index, end = chunks

    def of(name: str, proves: str, *changed: tuple[bytes, bytes], error: str = "damaged") -> Vector:
        return Vector(name, proves, join(prefix, list(changed)), error)

    alien = (b"ALIE", b"x")
    yield of(
        "critical-chunk",
        "an unknown critical chunk between segments",
        header,
        first,
        alien,
        second,
        index,
        end,
        error="unsupported",
    )
    yield of(
        "critical-chunk-last",
        "an unknown critical chunk before HEND",
        header,
        first,
        second,
        index,
        alien,
        end,
        error="unsupported",
    )
    yield of("no-vhdr", "VHDR is missing", first, second, index, end)
    yield of("vhdr-late", "an ancillary chunk before VHDR", (b"note", b""), *chunks)
    yield of("vhdr-twice", "a second VHDR", header, header, first, second, index, end)
    yield of("no-segment", "INDX follows VHDR", header, index, end)
    yield of("no-index", "HEND follows SEGM", header, first, second, end)
    yield of("no-end", "HEND is missing", header, first, second, index)
    yield of("index-twice", "a second INDX", header, first, second, index, index, end)
    yield of("index-early", "a SEGM after INDX", header, first, index, second, end)
    yield of("segments-swapped", "segments out of order", header, second, first, index, end)
    yield of(
        "type-not-letters",
        "a type with a digit in it",
        header,
        first,
        (b"no1e", b""),
        second,
        index,
        end,
    )
    serial = bytearray(data)
    at = 24 + 20 + len(header[1])
    serial[at + 8] = 7
    yield Vector("serial", "a serial number out of order", repair(bytes(serial)), "damaged")
    spoilt = bytearray(join(prefix, [header, first, (b"noTE", b"text"), second, index, end]))
    spoilt[spoilt.index(b"text")] ^= 1
    yield Vector(
        "ancillary-payload_crc",
        "an ancillary chunk with a wrong payload_crc",
        bytes(spoilt),
        "damaged",
    )
    yield of("after-end", "an ancillary chunk follows HEND", *chunks, (b"noTE", b""))
    for name, length in (
        ("short", len(first[1]) - 4),
        ("long", len(first[1]) + 4),
        ("huge", 0xFFFFFFFF),
    ):
        lying = bytearray(data)
        lying[at + 4 : at + 8] = struct.pack("<I", length)
        lying[at + 12 : at + 16] = struct.pack("<I", crc32(bytes(lying[at : at + 12])))
        yield Vector(
            f"length-{name}", "a wrong length, though header_crc is right", bytes(lying), "damaged"
        )


def faulty_index(data: bytes) -> Iterator[Vector]:
    prefix, chunks = split(data)
    _, first, _, (_, index), (_, end) = chunks
    places = [struct.unpack_from("<Q", index, 4 + 18 * n)[0] for n in range(2)]

    def of(name: str, proves: str, index: bytes = index, end: bytes = end) -> Vector:
        # The index keeps its length in most of these, so its own offsets stay right.
        changed = [*chunks[:3], (b"INDX", index), (b"HEND", end)]
        return Vector(f"index-{name}", proves, join(prefix, changed, relocate=False), "damaged")

    def entry(n: int, field: int, code: str, value: int) -> bytes:
        return poke(index, 4 + 18 * n + field, struct.pack(code, value))

    yield of("empty", "segment_count 0", struct.pack("<I", 0) + index[4:])
    yield of("count-short", "fewer segments than entries", struct.pack("<I", 1) + index[4:])
    yield of("count-long", "more segments than entries", struct.pack("<I", 3) + index[4:])
    yield of("count-huge", "2^32 - 1 segments", struct.pack("<I", 2**32 - 1) + index[4:])
    yield of("trailing", "a byte after the entries", index + b"\0")
    yield of("overlap", "two entries for one segment", entry(1, 0, "<Q", places[0]))
    yield of("swapped", "entries out of file order", index[:4] + index[22:40] + index[4:22])
    yield of("out-of-file", "an offset beyond the end", entry(1, 0, "<Q", 1 << 40))
    yield of("into-header", "an offset inside VHDR", entry(0, 0, "<Q", 30))
    yield of("off-by-one", "an offset one byte late", entry(0, 0, "<Q", places[0] + 1))
    yield of("length", "another length than the chunk's", entry(0, 8, "<I", len(first[1]) - 1))
    yield of("first_frame", "a gap between segments", entry(1, 12, "<I", 3))
    yield of("frame_count", "another frame_count than the segment's", entry(1, 16, "<H", 2))
    yield of("frame_count-0", "a segment without frames", entry(1, 16, "<H", 0))
    yield of(
        "end-offset",
        "index_offset points elsewhere",
        end=poke(end, 0, struct.pack("<Q", places[0])),
    )
    yield of("end-offset-huge", "index_offset beyond the file", end=poke(end, 0, b"\xff" * 8))
    yield of(
        "end-frames", "HEND.frame_count is not the sum", end=poke(end, 8, struct.pack("<I", 4))
    )
    yield of("end-frames-0", "HEND.frame_count is 0", end=poke(end, 8, struct.pack("<I", 0)))
    yield of("end-trailing", "HEND is too long", end=end + b"\0")
    unlisted = struct.pack("<I", 1) + index[4:22]
    changed = [*chunks[:3], (b"INDX", unlisted), (b"HEND", poke(end, 8, struct.pack("<I", 2)))]
    headed = poke(chunks[0][1], 24, struct.pack("<I", 2))
    yield Vector(
        "index-unlisted",
        "a segment that the index does not list",
        join(prefix, [(b"VHDR", headed), *changed[1:]]),
        "damaged",
    )


def faulty_video_header(data: bytes) -> Iterator[Vector]:
    prefix, chunks = split(data)
    header = chunks[0][1]

    def of(name: str, payload: bytes, proves: str = "a value that is not allowed") -> Vector:
        changed = [(b"VHDR", payload), *chunks[1:]]
        return Vector(f"vhdr-{name}", proves, join(prefix, changed), "damaged")

    for name, offset, new in (
        ("width-0", 0, b"\0\0"),
        ("height-0", 2, b"\0\0"),
        ("chroma_format", 4, b"\x04"),
        ("bit_depth-7", 5, b"\x07"),
        ("bit_depth-13", 5, b"\x0d"),
        ("chroma_siting", 6, b"\x06"),
        ("full_range", 7, b"\x02"),
        ("reserved", 11, b"\x01"),
        ("sample_aspect-0-1", 14, b"\1\0"),
        ("sample_aspect-1-0", 12, b"\1\0"),
        ("frame_rate_num-0", 16, b"\0\0\0\0"),
        ("frame_rate_den-0", 20, b"\0\0\0\0"),
    ):
        yield of(name, poke(header, offset, new))
    yield of("frame_count", poke(header, 24, b"\x04"), "VHDR.frame_count is not HEND's")
    yield of("short", header[:-1], "VHDR is a byte short")
    yield of("long", header + b"\0", "VHDR is a byte long")
    yield of("other-size", poke(header, 0, b"\x0a"), "the frames are not of this size")
    yield of(
        "other-size-same-network",
        poke(header, 0, b"\x07"),
        "the frames are not of this size, though the network could make them",
    )


def faulty_segment(video: VideoHeader, part: QuantizedSegment) -> Iterator[Vector]:
    def of(name: str, proves: str, payload: bytes, error: str = "damaged") -> Vector:
        data = make_file(video, [(payload, part.frame_count)])
        return Vector(f"segm-{name}", proves, data, error)

    def header(name: str, proves: str, **changes: Any) -> Vector:
        return of(name, proves, write_payload(part, lambda h: replace(h, **changes)))

    def model(name: str, proves: str, **changes: Any) -> Vector:
        return header(name, proves, model=replace(part.model, **changes))

    def stage(name: str, proves: str, **changes: Any) -> Vector:
        return model(name, proves, stages=(replace(part.model.stages[0], **changes),))

    def layer(name: str, proves: str, number: int, **changes: Any) -> Vector:
        def change(h: SegmentHeader) -> SegmentHeader:
            heads = list(h.layers)
            tables = {k: changes[k] for k in ("weight_table", "bias_table") if k in changes}
            rest = {k: v for k, v in changes.items() if k not in tables}
            requant = replace(heads[number].requant, **rest)
            heads[number] = replace(heads[number], requant=requant, **tables)
            return replace(h, layers=tuple(heads))

        return of(name, proves, write_payload(part, change))

    yield header("first_frame", "first_frame is not the index's", first_frame=1)
    yield header("frame_count", "frame_count is not the index's", frame_count=3)
    more = random_segment(video, part.frame_count + 1, seed=1, model=TINY_MODEL)
    yield Vector(
        "segm-frame_count-sound",
        "frame_count is not the index's, in a segment that has so many frames",
        make_file(video, [(segment.write(more), part.frame_count)]),
        "damaged",
    )
    yield header("frame_count-0", "a segment without frames", frame_count=0)
    for n in (0, 1025):
        yield model(f"embed_channels-{n}", "not in 1..1024", embed_channels=n)
        yield model(f"stem_channels-{n}", "not in 1..1024", stem_channels=n)
        yield stage(f"channels-{n}", "not in 1..1024", channels=n)
    for n in (0, 2, 9):
        yield stage(f"kernel-{n}", "a kernel of this size", kernel=n)
        yield model(f"head_kernel-{n}", "a kernel of this size", head_kernel=n)
    for n in (0, 9):
        yield stage(f"stride-{n}", "not in 1..8", stride=n)
        yield model(f"stage_count-{n}", "not in 1..8", stages=part.model.stages * n)
    yield stage("residuals-16", "not in 0..15", residuals=16)
    yield layer("bias_shift-24", "not in 0..23", 1, bias_shift=24)
    yield layer("shift-24", "not in 0..23", 1, shift=24)
    yield layer("multiplier-0", "not >= 1", 1, multiplier=0)
    yield layer("gain-0", "not >= 1", 1, gain=0)
    yield layer("max_level-8192", "not in 0..8191", 1, weight_table=Table(8192, 0, 0))
    yield layer("decay-192", "not in 0..191", 1, bias_table=Table(1, 0, 192))
    unused = write_payload(
        zeroed(part), lambda h: replace(h, embed_tables=(Table(0, 0, 192), *h.embed_tables[1:]))
    )
    yield of("unused-decay-192", "not in 0..191, though the table codes nothing", unused)
    first, *later = segment.header_of(part).embed_tables
    tables = replace(first, decay=192), *later
    yield header("embed-decay-192", "not in 0..191", embed_tables=tables)
    words = (len(write_payload(part)) - len(write_payload(zeroed(part)))) // 4
    payload = write_payload(part)
    yield header("coded_words-long", "more words than the payload holds", coded_words=2**32 - 1)
    yield header("coded_words-short", "words left over", coded_words=words - 1)
    yield of("coded-extra", "words behind the last level", write_payload(part, extra_words=3))
    yield of(
        "coded-extra-many",
        "many words behind the last level",
        write_payload(part, extra_words=1000),
    )
    yield of("trailing", "a byte behind frame_crc", payload + b"\0")
    yield of("short", "frame_crc is a byte short", payload[:-1])
    crcs = 4 * part.frame_count
    start = len(payload) - crcs - 4 * words
    corrupt = payload[:start] + b"\xff" * (4 * words) + payload[-crcs:]
    yield of("coded-corrupt", "no level has this code: place >= 2^24", corrupt)
    zeros = payload[:start] + bytes(4 * words) + payload[-crcs:]
    yield of("coded-zeros", "every level is the table's lowest", zeros)
    yield of(
        "frame_crc",
        "a frame fails its checksum",
        poke(payload, len(payload) - 4, bytes([payload[-4] ^ 1])),
    )
    payload = write_payload(part, lambda h: replace(h, embed_zero_point=0))
    yield of("embedding-below-0", "an embedding level below 0", payload)
    payload = write_payload(part, lambda h: replace(h, embed_zero_point=255))
    yield of("embedding-above-255", "an embedding level above 255", payload)
    small = make_video(2, 2)
    for sign, word in ((1, "high"), (-1, "low")):
        payload = write_payload(bounded_segment(small, sign, 1))
        yield Vector(
            f"segm-accumulator-{word}",
            "an accumulator could reach 2^24",
            make_file(small, [(payload, 1)]),
            "damaged",
        )


def zeroed(part: QuantizedSegment) -> QuantizedSegment:
    """The same header, nothing coded."""
    for n, layer in enumerate(part.layers):
        part = with_layer(part, n, weight=0 * layer.weight, bias=0 * layer.bias)
    return replace(part, embedding=np.full_like(part.embedding, part.embed_zero_point))


def faulty_limits() -> Iterator[Vector]:
    video = make_video(2, 2)

    def of(name: str, proves: str, video: VideoHeader, frames: int, model: ModelConfig) -> Vector:
        data = make_file(video, [(write_payload(zero_segment(video, frames, model)), frames)])
        return Vector(f"limit-{name}", proves, data, "limit")

    pixel = ModelConfig(1, 1, (StageConfig(1, 1, 1, 0),), 1)
    block = ModelConfig(1, 1, (StageConfig(8, 1, 1, 0),), 1)
    yield of("width", "one column more than level 10 allows", make_video(4097, 1), 1, block)
    yield of("height", "one row more than level 10 allows", make_video(1, 4097), 1, block)
    yield of("luma", "more luma samples than level 10 allows", make_video(241, 272), 1, block)
    yield of("frames", "2049 frames in a segment", video, 2049, pixel)
    yield of(
        "weights",
        "one weight more than level 10 allows",
        video,
        1,
        model_of_weights((1 << 18) + 1, video),
    )
    yield of(
        "embedding",
        "more embedding values than level 10 allows",
        make_video(4, 2),
        1025,
        ModelConfig(1024, 1, (StageConfig(1, 1, 1, 0),), 1),
    )
    wide = make_video(4096, 16)
    stages = (StageConfig(8, 1, 1, 0), StageConfig(8, 1, 8, 15), *[StageConfig(1, 1, 8, 15)] * 4)
    yield of(
        "macs", "more multiplications than level 10 allows", wide, 1, ModelConfig(1, 1, stages, 1)
    )
    yield of(
        "features",
        "a layer writes more values than level 10 allows",
        make_video(256, 256),
        1,
        ModelConfig(1, 1, (StageConfig(8, 1, 65, 0),), 1),
    )
    yield Vector(
        "limit-embedding-60",
        "more embedding values than any level allows",
        make_file(
            make_video(66, 2),
            [
                (
                    write_payload(
                        zero_segment(
                            make_video(66, 2),
                            2048,
                            ModelConfig(1024, 1, (StageConfig(1, 1, 1, 0),), 1),
                        )
                    ),
                    2048,
                )
            ],
            level=60,
        ),
        "limit",
    )
    huge = struct.pack("<HH", 65535, 65535)
    prefix, chunks = split(make_file(video, [zero_segment(video, 1, pixel)], level=60))
    header = poke(chunks[0][1], 0, huge)
    yield Vector(
        "limit-huge-frame",
        "65535x65535 in 200 bytes",
        join(prefix, [(b"VHDR", header), *chunks[1:]]),
        "limit",
    )
    giant = ModelConfig(1024, 1024, (StageConfig(8, 7, 1024, 15),) * 8, 7)
    start = ByteWriter()
    start.u32(0)
    start.u16(2048)
    headers.write_model(start, giant)
    payload = start.getvalue() + bytes(4 * 2048)
    yield Vector(
        "limit-huge-network",
        "a network of 10^13 weights in 8 kB",
        make_file(video, [(payload, 2048)], level=60),
        "limit",
    )


# ---------------------------------------------------------------- writing them


def real_bunny() -> bytes:
    """Ten real frames, as `hnv encode` writes them."""
    from hnervcodec.encoding.encoder import encode
    from hnervcodec.encoding.plan import Settings
    from hnervcodec.media.source import VideoSource

    file = io.BytesIO()
    with VideoSource(str(ROOT / "tests/data/bunny.mp4")) as source:
        header = source.header
        frames = list(islice(source.frames(), 10))
    pixels = header.width * header.height
    settings = Settings(bytes_per_frame=0.2 * pixels / 8, preset="ultrafast")
    encode(header, frames, file, settings)
    return file.getvalue()


def describe(vector: Vector) -> dict[str, Any]:
    facts: dict[str, Any] = {"proves": vector.proves}
    if vector.error:
        return {**facts, "error": vector.error}
    with Decoder(vector.data, path="float64") as decoder:
        video = decoder.video
        decoded = [plane_bytes(planes) for _, planes in decoder.frames(range(len(decoder)))]
        moments = [n + Fraction(p, q) for n, p, q in vector.between]
        between = [plane_bytes(planes) for _, planes in decoder.frames(moments)]
    return {
        **facts,
        "width": video.width,
        "height": video.height,
        "chroma_format": video.chroma_format,
        "bit_depth": video.bit_depth,
        "frame_rate": str(video.frame_rate),
        "crc32": [f"{crc32(frame):08x}" for frame in decoded],
        "md5": list(map(_md5, decoded)),
    } | (
        {
            "between": [
                {"n": n, "p": p, "q": q, "md5": _md5(frame)}
                for (n, p, q), frame in zip(vector.between, between, strict=True)
            ]
        }
        if between
        else {}
    )


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    real = FOLDER / "valid/real-bunny.hnv"
    real_data = real.read_bytes() if real.exists() else real_bunny()
    real_vector = Vector(
        "real-bunny", "ten frames of a real video as the encoder writes them", real_data
    )
    rows = []
    for folder, vectors in (("valid", [*valid(), real_vector]), ("faulty", list(faulty()))):
        (target / folder).mkdir(parents=True, exist_ok=True)
        for old in (target / folder).iterdir():
            old.unlink()
        assert len({vector.name for vector in vectors}) == len(vectors)
        rows += [
            f"\n## {folder}\n",
            "| file | bytes | what it proves |" + " error |" * (folder == "faulty"),
        ]
        rows.append("|---|---|---|" + "---|" * (folder == "faulty"))
        for vector in vectors:
            path = target / folder / f"{vector.name}.hnv"
            path.write_bytes(vector.data)
            path.with_suffix(".json").write_text(json.dumps(describe(vector), indent=1) + "\n")
            error = f" {vector.error} |" if vector.error else ""
            rows.append(f"| {vector.name} | {len(vector.data):,} | {vector.proves} |{error}")
    (target / "README.md").write_text(INTRODUCTION + "\n".join(rows) + "\n")
    print(f"{sum(row.startswith('| ') for row in rows) - 2} vectors in {target}")


INTRODUCTION = """# Conformance vectors

Made by `tools/make_vectors`. Beside each `.hnv` file stands a `.json` with what it proves and, if
the file is valid, its geometry and the CRC-32 and MD5 of every frame's planes (in order, rows from
the top, one byte a sample, or two, little-endian, above 8 bits). A decoder that reads whole files
MUST decode the valid ones to these bytes and MUST refuse the faulty ones, as `damaged`,
`unsupported` or for a `limit` (sections 10 and 11 of [the specification](../bitstream.md)). One
that makes frames between frames (section 9.4) MUST make those at n + p / q of `between`.
"""


if __name__ == "__main__":
    main()
