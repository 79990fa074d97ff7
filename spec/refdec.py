#!/usr/bin/env python3
"""Reference decoder of `.hnv` files: bitstream.md in Python and numpy integers.

    python spec/refdec.py x.hnv               prints a line "INDEX, MD5 of the planes" per frame
    python spec/refdec.py x.hnv -o out.yuv    writes the planes too, one frame after the other

Written for reading, not for speed, in the order of the specification, whose sentences stand as
comments. It shares no code with any other decoder. A faulty file gives one line on stderr that
starts with its class (damaged, unsupported or limit) and exit status 3.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from pathlib import Path

import numpy as np


class Faulty(Exception):
    """A file that must be refused (section 11)."""

    kind = ""


class Damaged(Faulty):
    kind = "damaged"


class Unsupported(Faulty):
    kind = "unsupported"


class Limit(Faulty):
    kind = "limit"


# ---------------------------------------------------------------- 1. Notation


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def crc32(data: bytes) -> int:
    return zlib.crc32(data)


class Fields:
    """Reads the fields of one structure. All integers are unsigned and little-endian."""

    def __init__(self, data: bytes, name: str):
        self.data, self.name, self.position = data, name, 0

    def raw(self, size: int) -> bytes:
        if self.position + size > len(self.data):
            raise Damaged(f"{self.name} ends too early")
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, size: int, element: str, low: int, high: int | None) -> int:
        value = int.from_bytes(self.raw(size), "little")
        if value < low or (high is not None and value > high):
            raise Damaged(f"{self.name}: {element} {value} is out of range")
        return value

    def u8(self, element: str, low: int = 0, high: int | None = None) -> int:
        return self.number(1, element, low, high)

    def u16(self, element: str, low: int = 0, high: int | None = None) -> int:
        return self.number(2, element, low, high)

    def u32(self, element: str, low: int = 0, high: int | None = None) -> int:
        return self.number(4, element, low, high)

    def u64(self, element: str) -> int:
        return self.number(8, element, 0, None)

    def uv(self, element: str, low: int = 0, high: int = 2**63 - 1) -> int:
        """16: groups of 7 bits, the lowest first, each in a byte whose top bit says that another
        follows"""
        value = 0
        for n in range(9):
            byte = self.u8(element)
            value |= (byte & 127) << (7 * n)
            if byte < 128:
                break
        else:
            raise Damaged(f"{self.name}: {element} is longer than 9 bytes")
        # the last of several bytes is not 0
        if n and byte == 0:
            raise Damaged(f"{self.name}: {element} has needless bytes")
        if not low <= value <= high:
            raise Damaged(f"{self.name}: {element} {value} is out of range")
        return value

    def sv(self, element: str) -> int:
        value = self.uv(element, 0, 2**54 - 1)
        return value // 2 if value % 2 == 0 else -((value + 1) // 2)

    def end(self) -> None:
        """Every byte of a structure is accounted for."""
        if self.position != len(self.data):
            raise Damaged(f"{self.name} is {len(self.data) - self.position} bytes too long")


# ---------------------------------------------------------------- 2. Container

SIGNATURE = bytes.fromhex("89 48 4E 56 0D 0A 1A 0A")
PREFIX_SIZE = 24
ORDER = {"VHDR": [""], "SEGM": ["VHDR", "SEGM"], "INDX": ["SEGM"], "HEND": ["INDX"]}


@dataclass
class Chunk:
    kind: str
    offset: int  # of its header
    payload: bytes


def read_prefix(data: bytes) -> Level:
    """2.1: returns the level."""
    # A decoder MUST check the signature first, then prefix_crc, then major_version.
    if data[:8] != SIGNATURE:
        raise Damaged("no .hnv signature")
    r = Fields(data[:PREFIX_SIZE], "prefix")
    r.raw(8)
    major, _minor = r.u8("major_version"), r.u8("minor_version")
    profile, level = r.u8("profile"), r.u8("level")
    incompatible_flags, _compatible_flags = r.u32("incompatible_flags"), r.u32("compatible_flags")
    if r.u32("prefix_crc") != crc32(data[:20]):
        raise Damaged("prefix_crc")
    if major != 1:
        raise Unsupported(f"major_version {major}")
    # A decoder MUST refuse a file with a set bit it does not know.
    if incompatible_flags:
        raise Unsupported(f"incompatible_flags {incompatible_flags:#x}")
    if profile != 0:
        raise Unsupported(f"profile {profile}")
    if level not in LEVELS:
        raise Unsupported(f"level {level}")
    return LEVELS[level]


def read_chunks(data: bytes) -> Iterator[Chunk]:
    """2.2: all chunks, each checked before it is handed out."""
    # A file is a prefix followed by chunks without gaps, the last of which ends the file.
    offset, serial, previous = PREFIX_SIZE, 0, ""
    while previous != "HEND":
        header = data[offset : offset + 16]
        r = Fields(header, f"chunk header at byte {offset}")
        letters = r.raw(4)
        length, declared = r.u32("length"), r.u32("serial")
        # A decoder MUST check header_crc before it uses length.
        if r.u32("header_crc") != crc32(header[:12]):
            raise Damaged(f"header_crc at byte {offset}")
        if not (letters.isalpha() and letters.isascii()):
            raise Damaged(f"type {letters!r} at byte {offset}")
        kind = letters.decode()
        # A type whose first letter is upper case is critical: a decoder that meets an unknown
        # critical chunk MUST stop, as soon as header_crc holds.
        if kind[0].isupper() and kind not in ORDER:
            raise Unsupported(f"critical chunk {kind}")
        # serial: 0 for the first chunk, then one more for each, ancillary or not.
        if declared != serial:
            raise Damaged(f"serial {declared} at byte {offset}")
        # VHDR is the first chunk. One or more SEGM follow, then one INDX, then HEND. Ancillary
        # chunks MUST be skipped when unknown, but for their checks.
        if kind[0].isupper():
            if previous not in ORDER[kind]:
                raise Damaged(f"{kind} follows {previous or 'the prefix'}")
            previous = kind
        elif serial == 0:
            raise Damaged("VHDR is not the first chunk")
        r = Fields(data[offset + 16 : offset + 16 + length + 4], kind)
        payload = r.raw(length)
        if r.u32("payload_crc") != crc32(payload):
            raise Damaged(f"payload_crc of {kind} at byte {offset}")
        yield Chunk(kind, offset, payload)
        offset, serial = offset + 16 + length + 4, serial + 1
    # HEND is the last chunk and ends the file.
    if offset != len(data):
        raise Damaged("bytes follow HEND")


def check_index(index: Chunk, end: Chunk, segments: list[tuple[int, int, int, int]]) -> int:
    """2.3, 2.4: the index lists every one of `segments` (offset, length, first_frame,
    frame_count); returns the file's frame_count."""
    r = Fields(index.payload, "INDX")
    count = r.u32("segment_count", 1, 1 << 20)
    entries = [
        (r.u64("offset"), r.u32("length"), r.u32("first_frame"), r.u16("frame_count", 1))
        for _ in range(min(count, len(segments) + 1))
    ]
    if entries != segments:
        raise Damaged("INDX does not list the segments")
    r.end()
    r = Fields(end.payload, "HEND")
    if r.u64("index_offset") != index.offset:
        raise Damaged("HEND: index_offset")
    frame_count = r.u32("frame_count", 1)
    r.end()
    # equal to the sum over the index
    if frame_count != sum(entry[3] for entry in entries):
        raise Damaged("HEND: frame_count")
    return frame_count


# ---------------------------------------------------------------- 3. Video header


@dataclass
class Video:
    width: int
    height: int
    chroma_format: int
    bit_depth: int
    frame_count: int


def read_video_header(payload: bytes, level: Level) -> Video:
    r = Fields(payload, "VHDR")
    width, height = r.u16("width", 1), r.u16("height", 1)
    chroma_format, bit_depth = r.u8("chroma_format", 0, 3), r.u8("bit_depth", 8, 12)
    chroma_siting = r.u8("chroma_siting")
    if chroma_siting > 5 and chroma_siting != 255:
        raise Damaged(f"VHDR: chroma_siting {chroma_siting}")
    r.u8("full_range", 0, 1)
    for element in ("colour_primaries", "transfer_characteristics", "matrix_coefficients"):
        r.u8(element)
    r.u8("reserved", 0, 0)
    # sample aspect ratio; both >= 1, or both 0: unspecified
    if (r.u16("sample_aspect_num") == 0) != (r.u16("sample_aspect_den") == 0):
        raise Damaged("VHDR: sample_aspect")
    r.u32("frame_rate_num", 1)
    r.u32("frame_rate_den", 1)
    frame_count = r.u32("frame_count")
    r.end()
    level.check("width", width, level.side)
    level.check("height", height, level.side)
    level.check("luma samples", width * height, level.luma_samples)
    return Video(width, height, chroma_format, bit_depth, frame_count)


# ---------------------------------------------------------------- 4. Packing

# chroma_format -> (R, Q) of each plane: its rows and columns in a 2x2 block of luma samples
PLANES = {
    0: [(2, 2)],
    1: [(2, 2), (1, 1), (1, 1)],
    2: [(2, 2), (2, 1), (2, 1)],
    3: [(2, 2), (2, 2), (2, 2)],
}


def packed_channels(chroma_format: int) -> int:
    """P"""
    return sum(rows * columns for rows, columns in PLANES[chroma_format])


def unpack(packed: np.ndarray, video: Video) -> list[np.ndarray]:
    planes, channel = [], 0
    for rows, columns in PLANES[video.chroma_format]:
        # A plane has ceil(height * R / 2) rows and ceil(width * Q / 2) columns.
        height, width = ceil_div(video.height * rows, 2), ceil_div(video.width * columns, 2)
        plane = np.zeros((packed.shape[1] * rows, packed.shape[2] * columns), np.int64)
        # Channel r * Q + c of a plane's holds in row i and column j the plane's sample in row
        # R * i + r and column Q * j + c.
        for r in range(rows):
            for c in range(columns):
                plane[r::rows, c::columns] = packed[channel]
                channel += 1
        # samples outside the planes, below and to the right, are discarded
        planes.append(plane[:height, :width])
    return planes


def plane_bytes(planes: list[np.ndarray], bit_depth: int) -> bytes:
    """Planes in order, rows from the top, each sample one byte or a little-endian u16."""
    return b"".join(plane.astype("u1" if bit_depth == 8 else "<u2").tobytes() for plane in planes)


# ---------------------------------------------------------------- 5. Network


@dataclass
class Layer:
    kind: str  # "stem" | "up" | "residual" | "head"
    kernel: int  # k
    inputs: int  # I
    outputs: int  # O
    shuffle: int  # s
    height: int  # of its input
    width: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """A layer has weights [O * s * s, I, k, k]."""
        return self.outputs * self.shuffle**2, self.inputs, self.kernel, self.kernel

    @property
    def weights(self) -> int:
        return self.shape[0] * self.inputs * self.kernel**2


def read_kernel(r: Fields, element: str) -> int:
    kernel = r.u8(element, 1, 7)
    if kernel % 2 == 0:
        raise Damaged(f"{r.name}: {element} {kernel}")
    return kernel


def read_network(r: Fields, video: Video) -> list[Layer]:
    embed_channels, stem_channels = (
        r.u16("embed_channels", 1, 1024),
        r.u16("stem_channels", 1, 1024),
    )
    stages = []
    for n in range(r.u8("stage_count", 1, 8)):
        stride, kernel = r.u8(f"stage[{n}].stride", 1, 8), read_kernel(r, f"stage[{n}].kernel")
        channels = r.u16(f"stage[{n}].channels", 1, 1024)
        stages.append((stride, kernel, channels, r.u8(f"stage[{n}].residuals", 0, 15)))
    head_kernel = read_kernel(r, "head_kernel")
    # With S the product of all strides, an embedding has C = embed_channels channels of
    # h = ceil(ceil(height / 2) / S) rows and w = ceil(ceil(width / 2) / S) columns.
    product = 1
    for stride, *_ in stages:
        product *= stride
    h, w = ceil_div(ceil_div(video.height, 2), product), ceil_div(ceil_div(video.width, 2), product)
    layers = [Layer("stem", 1, embed_channels, stem_channels, 1, h, w)]
    last = stem_channels
    for stride, kernel, channels, residuals in stages:
        layers.append(Layer("up", kernel, last, channels, stride, h, w))
        last, h, w = channels, h * stride, w * stride
        layers += [Layer("residual", 3, last, last, 1, h, w) for _ in range(residuals)]
    layers.append(Layer("head", head_kernel, last, packed_channels(video.chroma_format), 1, h, w))
    return layers


# ---------------------------------------------------------------- 6. Segment


@dataclass
class Parameters:
    """What the segment header says about one layer, and its decoded levels."""

    weight_table: Table
    bias_table: Table
    bias_shift: int
    shift: int
    multiplier: int
    gain: int
    zero_point: int
    weights: np.ndarray | None = None
    biases: np.ndarray | None = None


@dataclass
class Segment:
    first_frame: int
    layers: list[Layer]
    parameters: list[Parameters]
    embed_zero_point: int  # Z
    embedding: np.ndarray  # e [T, C, h, w]
    frame_crcs: list[int]


def read_segment(payload: bytes, video: Video, level: Level) -> Segment:
    r = Fields(payload, "SEGM")
    first_frame, frames = r.u32("first_frame"), r.u16("frame_count", 1)
    layers = read_network(r, video)
    # A decoder MUST check the network's ranges, then the network, frame_count and the frame size
    # against the limits of section 10, before it allocates memory for what they describe.
    stem = layers[0]
    embedding_shape = (frames, stem.inputs, stem.height, stem.width)
    level.check_segment(layers, embedding_shape)
    zero = r.u8("embed_zero_point")
    embed_tables = [read_table(r, "embed_table.first")]
    if frames > 1:
        embed_tables += [read_table(r, f"embed_table[{c}]") for c in range(stem.inputs)]
    parameters = [
        Parameters(
            read_table(r, "weight_table"),
            read_table(r, "bias_table"),
            r.u8("bias_shift", 0, 23),
            r.u8("shift", 0, 23),
            r.u16("multiplier", 1),
            r.u16("gain", 1) if layer.kind != "head" else 0,
            r.u8("zero_point") if layer.kind in ("stem", "up") else 0,
        )
        for layer in layers
    ]
    coded = RangeDecoder(r.raw(4 * r.u32("coded_words")))
    crcs = Fields(r.raw(4 * frames), "frame_crc")
    # which use it up exactly
    r.end()

    # 6.1 Order of the coded levels
    e = np.zeros(embedding_shape, np.int64)
    # 1. Embedding of the first frame: level e[0] = Z + decoded value.
    e[0] = zero + coded.levels(embed_tables[0], e[0].size).reshape(e[0].shape)
    # 2. If T > 1, for each channel c: e[t][c] = e[t - 1][c] + decoded value.
    for c, table in enumerate(embed_tables[1:]):
        steps = coded.levels(table, e[1:, c].size).reshape(e[1:, c].shape)
        e[1:, c] = e[0, c] + np.cumsum(steps, axis=0)
    # Every level e[t], t = 0..T - 1, MUST lie in 0..255.
    if e.min() < 0 or e.max() > 255:
        raise Damaged("SEGM: an embedding level is not in 0..255")
    # 3. For each layer in order: its weights, then its biases.
    for layer, p in zip(layers, parameters, strict=True):
        p.weights = coded.levels(p.weight_table, layer.weights).reshape(layer.shape)
        p.biases = coded.levels(p.bias_table, layer.outputs)
    # After the last level the coded data MUST be at its end.
    coded.end()
    segment = Segment(
        first_frame, layers, parameters, zero, e, [crcs.u32("crc") for _ in range(frames)]
    )
    check_accumulators(segment)
    return segment


# ---------------------------------------------------------------- 7. Frequency tables


@dataclass
class Table:
    max_level: int  # M
    cdf: list[int]  # cdf[i] of section 8; empty if M = 0


def read_table(r: Fields, element: str) -> Table:
    m = r.u16(f"{element}.max_level", 0, 8191)
    zero, decay = r.u8(f"{element}.zero"), r.u8(f"{element}.decay", 0, 191)
    if m == 0:  # With M = 0 nothing is coded.
        return Table(0, [])
    ratio = 65536 - ((31 - (decay % 16)) << (11 - decay // 16))
    weight = [0, 1 << 30]
    for _ in range(2, m + 1):
        weight.append((weight[-1] * ratio) >> 16)
    total = sum(weight)
    spare = ((1 << 24) - ((2 * zero + 1) << 15)) // 2 - m
    f = [1 + (weight[k] * spare) // total for k in range(1, m + 1)]
    centre = (1 << 24) - 2 * sum(f)
    cdf = [0]
    for frequency in [*reversed(f), centre, *f]:  # for the levels -M..M in this order
        cdf.append(cdf[-1] + frequency)
    return Table(m, cdf)


# ---------------------------------------------------------------- 8. Range coder

MASK = (1 << 64) - 1


class RangeDecoder:
    """One decoder runs through all levels of a segment."""

    def __init__(self, coded_levels: bytes):
        self.words = np.frombuffer(coded_levels, "<u4").tolist()
        self.calls = 0
        self.low, self.range = 0, MASK
        self.point = (self.next() << 32) | self.next()

    def next(self) -> int:
        """The next word of coded_levels, 0 past its end."""
        self.calls += 1
        return self.words[self.calls - 1] if self.calls <= len(self.words) else 0

    def levels(self, table: Table, count: int) -> np.ndarray:
        # A tensor whose table has max_level 0 is zero and takes no symbols.
        if table.max_level == 0:
            return np.zeros(count, np.int64)
        cdf, values = table.cdf, []
        for _ in range(count):
            scale = self.range >> 24
            q = ((self.point - self.low) & MASK) // scale
            if q >= 1 << 24:
                raise Damaged("SEGM: coded_levels are corrupt")
            i = bisect_right(cdf, q) - 1  # the largest index with cdf[i] <= place, here q
            self.low = (self.low + scale * cdf[i]) & MASK
            self.range = scale * (cdf[i + 1] - cdf[i])
            if self.range < 1 << 32:
                self.low, self.range = (self.low << 32) & MASK, self.range << 32
                self.point = ((self.point << 32) & MASK) | self.next()
            values.append(i - table.max_level)
        return np.array(values, np.int64)

    def end(self) -> None:
        # the coded data is at its end if next() has been called at least coded_words times, and
        # range is 2^64 - 1 (nothing was decoded) or (point - low) mod 2^64 < 2^33 - 1
        left = (self.point - self.low) & MASK
        if self.calls < len(self.words) or not (self.range == MASK or left < (1 << 33) - 1):
            raise Damaged("SEGM: coded_levels are too long")


# ---------------------------------------------------------------- 9. Synthesis

# Table G of section 14
GELU = np.frombuffer((Path(__file__).parent / "tables/gelu.bin").read_bytes(), np.uint8)
if hashlib.sha256(GELU.tobytes()).hexdigest() != (
    "627dc8435d2e313498b2ab3521b1077797d8d2c146063ce9deee5e95307e8f67"
):
    sys.exit("refdec: tables/gelu.bin is not the table of the specification")


def check_accumulators(segment: Segment) -> None:
    """9.1: the conformance rule."""
    z = segment.embed_zero_point
    for layer, p in zip(segment.layers, segment.parameters, strict=True):
        # max(z, 255 - z) * sum |w[o]| + |(b[o // (s * s)] << bias_shift) + (2^shift >> 1)| < 2^24
        sums = np.abs(p.weights).sum(axis=(1, 2, 3)) * max(z, 255 - z)
        biases = np.abs((p.biases << p.bias_shift) + ((1 << p.shift) >> 1))
        if (sums + np.repeat(biases, layer.shuffle**2)).max() >= 1 << 24:
            raise Damaged(f"SEGM: the accumulators of a layer ({layer.kind}) have no bound")
        if layer.kind in ("stem", "up"):
            z = p.zero_point


def convolve(a: np.ndarray, z: int, layer: Layer, p: Parameters) -> np.ndarray:
    """9.1: acc [O, H * s, W * s] of input levels a [I, H, W]."""
    height, width = a.shape[1:]
    k, s = layer.kernel, layer.shuffle
    # Positions outside the input contribute 0 (as if a were z there).
    padded = np.pad(a - z, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    acc = np.zeros((layer.shape[0], height * width), np.int64)
    for i in range(k):
        for j in range(k):
            shifted = padded[:, i : i + height, j : j + width].reshape(layer.inputs, -1)
            acc += p.weights[:, :, i, j] @ shifted
    acc += np.repeat(p.biases << p.bias_shift, s * s)[:, None]
    # output channel c, row y * s + sy, column x * s + sx takes acc[c * s * s + sy * s + sx][y][x]
    acc = acc.reshape(layer.outputs, s, s, height, width).transpose(0, 3, 1, 4, 2)
    return acc.reshape(layer.outputs, height * s, width * s)


def between(segment: Segment, n: int, p: int, q: int) -> np.ndarray:
    """9.4: the embedding p / q of the way from frame n to the next."""
    e = segment.embedding.astype(np.int64)
    return (e[n] * (q - p) + e[n + 1] * p + q // 2) // q


def synthesize(segment: Segment, embedding: np.ndarray, bit_depth: int) -> np.ndarray:
    """The packed frame [P, H, W] of an embedding."""
    a, z = embedding, segment.embed_zero_point
    fine = a  # F
    for layer, p in zip(segment.layers, segment.parameters, strict=True):
        t = (convolve(a, z, layer, p) + ((1 << p.shift) >> 1)) >> p.shift
        if layer.kind == "head":
            # 9.3 Samples
            t = np.clip(t, -8192, 8191)
            samples = (t * p.multiplier + (1 << (23 - bit_depth))) >> (24 - bit_depth)
            return np.clip(samples, 0, (1 << bit_depth) - 1)
        # 9.2 Re-quantization
        t = np.clip(t, -2048, 2047)
        u = (t * p.multiplier + 512) >> 10
        g = np.maximum(u, 0) - GELU[np.minimum(np.abs(u), 4095)]
        d = (g * p.gain + 2048) >> 12
        if layer.kind == "residual":
            fine = np.clip(fine + d, 0, 4080)
        else:
            z = p.zero_point
            fine = np.clip(16 * z + d, 0, 4080)
        a = (fine + 8) >> 4
    raise AssertionError("a network ends with its head")


# ---------------------------------------------------------------- 10. Profiles and levels


@dataclass
class Level:
    number: int
    luma_samples: int  # N
    weights: int

    @property
    def side(self) -> int:
        """Width and height are at most 16 * floor(sqrt(N))."""
        return 16 * isqrt(self.luma_samples)

    def check(self, what: str, value: int, limit: int) -> None:
        if value > limit:
            raise Limit(f"{what} {value} exceeds {limit}, the limit of level {self.number}")

    def check_segment(self, layers: list[Layer], embedding: tuple[int, int, int, int]) -> None:
        n = self.luma_samples
        frames, channels, height, width = embedding
        self.check("frames per segment", frames, 2048)
        self.check("weights", sum(layer.weights for layer in layers), self.weights)
        values = frames * channels * height * width
        self.check("embedding values", values, min(32 * n, 1 << 26))
        macs = sum(layer.weights * layer.height * layer.width for layer in layers)
        self.check("multiplications per frame", macs, n << 16)
        for layer in layers:
            written = layer.shape[0] * layer.height * layer.width
            self.check("values that one layer writes", written, 16 * n)


LEVELS = {
    number: Level(number, 1 << luma, 1 << weights)
    for number, luma, weights in (
        (10, 16, 18),
        (20, 18, 20),
        (30, 20, 22),
        (40, 21, 23),
        (50, 23, 24),
        (60, 25, 25),
    )
}


# ---------------------------------------------------------------- 16. Beside the frames


def check_beside(chunks: list[Chunk], frame_counts: list[int]) -> None:
    """What goes with the frames, which this decoder checks and leaves where it is."""
    previous, segment, streams, displays = "", -1, 0, 0
    seen: set[int] = set()  # streams with packets in this segment
    times: dict[int, tuple[int, int, int, int]] = {}
    for chunk in chunks:
        r = Fields(chunk.payload, chunk.kind)
        if chunk.kind[0].isupper():
            previous, seen = chunk.kind, set()
            segment += chunk.kind == "SEGM"
        # dISP and sTRM MUST stand after VHDR and before the first SEGM; tIME and pKTS after the
        # SEGM that they belong to.
        elif chunk.kind in PLACES and previous != PLACES[chunk.kind]:
            raise Damaged(f"{chunk.kind} after {previous}")
        elif chunk.kind == "dISP":
            displays += 1
            check_display(r)
        elif chunk.kind == "sTRM":
            streams += 1
            check_stream(r)
        elif chunk.kind == "tIME":
            if segment in times:
                raise Damaged("tIME twice")
            times[segment] = read_times(r, frame_counts[segment])
        elif chunk.kind == "pKTS":
            stream = check_packets(r, streams)
            # At most one for each stream after each SEGM.
            if stream in seen:
                raise Damaged("pKTS twice")
            seen.add(stream)
    if displays > 1 or streams > 64:
        raise Damaged(f"{displays} dISP and {streams} sTRM")
    # One after each SEGM, or none in the file
    if len(times) not in (0, len(frame_counts)):
        raise Damaged("a SEGM without tIME")
    ordered = [times[n] for n in sorted(times)]
    for (num, den, _, end), (other_num, other_den, first, _) in pairwise(ordered):
        # num / den has the same value in all tIME; not before the end of the segment before it
        if num * other_den != other_num * den or first < end:
            raise Damaged("tIME does not go on from the one before")


PLACES = {"dISP": "VHDR", "sTRM": "VHDR", "tIME": "SEGM", "pKTS": "SEGM"}


def check_display(r: Fields) -> None:
    """16.1"""
    r.u8("rotation", 0, 3)
    r.u8("mirrored", 0, 1)
    if r.u8("mastering_present", 0, 1):
        r.raw(8 * 2 + 2 * 4)  # primaries, max_luminance, min_luminance: of any value
    if r.u8("content_light_present", 0, 1):
        r.raw(2 + 2)
    r.end()


def read_times(r: Fields, frame_count: int) -> tuple[int, int, int, int]:
    """16.2: time_base_num, time_base_den, and the ticks of the segment's begin and end."""
    num, den = r.u32("time_base_num", 1), r.u32("time_base_den", 1)
    first_pts = end = r.sv("first_pts")
    # until the runs add up to the segment's frame_count
    while frame_count:
        run = r.uv("run", 1, frame_count)
        end += run * r.uv("duration", 1, 2**32)
        frame_count -= run
    r.end()
    return num, den, first_pts, end


def check_stream(r: Fields) -> None:
    """16.3"""
    kind = r.u8("kind", 1, 2)
    codec = r.raw(r.u8("codec_size", 1, 64))
    r.u32("time_base_num", 1)
    r.u32("time_base_den", 1)
    if not all(0x21 <= byte <= 0x7E for byte in codec + r.raw(3)):
        raise Damaged("sTRM: codec or language is no text")
    if kind == 1:
        r.u32("sample_rate", 1)
        r.u8("channels", 1)
        r.u8("bit_depth")
    r.uv("codec_delay")
    r.uv("seek_preroll")
    r.raw(r.u32("private_size", 0, 2**20))
    r.end()


def check_packets(r: Fields, streams: int) -> int:
    """16.4: returns the stream's number."""
    stream = r.u8("stream", 0, streams - 1)
    pts = total = 0
    # at most a third of the bytes that are left; the payload is short enough to let it fail later
    for _ in range(r.uv("packet_count", 1, len(r.data) // 3)):
        pts += r.sv("gap")
        if abs(pts) > 2**53:
            raise Damaged(f"pKTS: pts {pts}")
        pts += r.uv("duration", 0, 2**32)
        total += r.uv("size")
    # the sizes add up to the bytes that are left
    r.raw(total)
    r.end()
    return stream


# ---------------------------------------------------------------- the whole file


def decode(data: bytes) -> Iterator[bytes]:
    """The planes of every frame, in order."""
    level = read_prefix(data)
    chunks = list(read_chunks(data))
    video = read_video_header(chunks[0].payload, level)
    places, frame = [], 0
    for chunk in chunks:
        if chunk.kind == "SEGM":
            r = Fields(chunk.payload, "SEGM")
            first, count = r.u32("first_frame"), r.u16("frame_count", 1)
            if first != frame:
                raise Damaged(f"SEGM: first_frame {first} instead of {frame}")
            places.append((chunk.offset, len(chunk.payload), first, count))
            frame += count
    by_kind = {chunk.kind: chunk for chunk in chunks}
    frame_count = check_index(by_kind["INDX"], by_kind["HEND"], places)
    # VHDR's frame_count: 0 if unknown when written, else that of HEND
    if video.frame_count not in (0, frame_count):
        raise Damaged("VHDR: frame_count")
    check_beside(chunks, [count for *_, count in places])
    for chunk in chunks:
        if chunk.kind == "SEGM":
            segment = read_segment(chunk.payload, video, level)
            for n, frame_crc in enumerate(segment.frame_crcs):
                packed = synthesize(segment, segment.embedding[n], video.bit_depth)
                planes = plane_bytes(unpack(packed, video), video.bit_depth)
                if crc32(planes) != frame_crc:
                    raise Damaged(f"frame {segment.first_frame + n} fails its frame_crc")
                yield planes


def main() -> None:
    parser = argparse.ArgumentParser(description="Reference decoder of .hnv files.")
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="also write the planes to this file")
    arguments = parser.parse_args()
    output = None
    try:
        for index, planes in enumerate(decode(arguments.file.read_bytes())):
            print(f"{index}, {hashlib.md5(planes).hexdigest()}", flush=True)
            if arguments.output:
                output = output or arguments.output.open("wb")
                output.write(planes)
    except Faulty as error:
        if output:
            arguments.output.unlink()
        print(f"refdec: {error.kind}: {error}", file=sys.stderr)
        sys.exit(3)
    except OSError as error:
        print(f"refdec: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
