"""Syntax structures and their bytes, read and written in one order with the spec's names.

`VideoHeader` is the payload of the VHDR chunk, `SegmentHeader` the start of a SEGM payload.
A field's presence depends on earlier fields only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

from hnervcodec.bitstream.architecture import LayerSpec, ModelConfig, StageConfig, layers
from hnervcodec.bitstream.fields import ByteReader, ByteWriter
from hnervcodec.bitstream.range_coding import MAX_DECAY, MAX_LEVEL, Table
from hnervcodec.errors import FileError
from hnervcodec.planes import CHROMA_NAMES, packed_channels

IDENTITY = 0  # H.273's matrix code of RGB
UNSPECIFIED = 2  # H.273's code for "unknown or determined by the application"
SITING_UNSPECIFIED = 255


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """What every segment shares. Colour codes are those of ITU-T H.273."""

    width: int
    height: int
    chroma_format: int  # 0: 4:0:0, 1: 4:2:0, 2: 4:2:2, 3: 4:4:4
    frame_rate: Fraction  # frames per second
    bit_depth: int = 8  # 8..12
    chroma_siting: int = SITING_UNSPECIFIED  # H.273 ChromaLocType 0..5, or unspecified
    full_range: bool = False
    colour_primaries: int = UNSPECIFIED
    transfer_characteristics: int = UNSPECIFIED
    matrix_coefficients: int = UNSPECIFIED
    sample_aspect: tuple[int, int] = (0, 0)  # numerator, denominator; 0, 0: unspecified
    frame_count: int = 0  # 0: unknown when the header was written (see the index)

    @property
    def packed_channels(self) -> int:
        """Channels of the packed frame that the network writes: 4, 6, 8 or 12."""
        return packed_channels(self.chroma_format)

    @property
    def max_sample(self) -> int:
        """The largest sample value, 2**bit_depth - 1."""
        return (1 << self.bit_depth) - 1

    @property
    def is_rgb(self) -> bool:
        """Whether the planes are G, B and R: H.273's identity matrix."""
        return self.matrix_coefficients == IDENTITY and self.chroma_format == 3

    @property
    def format_name(self) -> str:
        """For people: RGB, 4:2:0 and so on."""
        return "RGB" if self.is_rgb else CHROMA_NAMES[self.chroma_format]

    @property
    def plane_names(self) -> tuple[str, ...]:
        """Of each plane in coding order: Y, Cb, Cr, or G, B, R, or Y alone."""
        names = ("G", "B", "R") if self.is_rgb else ("Y", "Cb", "Cr")
        return names[:1] if self.chroma_format == 0 else names

    def layers(self, model: ModelConfig) -> tuple[LayerSpec, ...]:
        """The layers of `model` for frames of this size."""
        return layers(model, self.packed_channels, *model.embed_size(self.width, self.height))


def read_video_header(r: ByteReader) -> VideoHeader:
    """Parses the payload of the VHDR chunk. FileError if it breaks a rule."""
    width = r.u16("width", 1)
    height = r.u16("height", 1)
    chroma_format = r.u8("chroma_format", 0, len(CHROMA_NAMES) - 1)
    bit_depth = r.u8("bit_depth", 8, 12)
    at = r.offset
    chroma_siting = r.u8("chroma_siting")
    if chroma_siting > 5 and chroma_siting != SITING_UNSPECIFIED:
        raise FileError(f"unknown value {chroma_siting}", element="chroma_siting", offset=at)
    full_range = r.u8("full_range", 0, 1)
    colour_primaries = r.u8("colour_primaries")
    transfer_characteristics = r.u8("transfer_characteristics")
    matrix_coefficients = r.u8("matrix_coefficients")
    r.u8("reserved", 0, 0)
    at = r.offset
    sample_aspect = r.u16("sample_aspect_num"), r.u16("sample_aspect_den")
    if (sample_aspect[0] == 0) != (sample_aspect[1] == 0):
        raise FileError(
            f"{sample_aspect[0]}:{sample_aspect[1]} is no ratio",
            element="sample_aspect",
            offset=at,
        )
    frame_rate = Fraction(r.u32("frame_rate_num", 1), r.u32("frame_rate_den", 1))
    frame_count = r.u32("frame_count")
    r.end("video_header")
    return VideoHeader(
        width,
        height,
        chroma_format,
        frame_rate,
        bit_depth,
        chroma_siting,
        bool(full_range),
        colour_primaries,
        transfer_characteristics,
        matrix_coefficients,
        sample_aspect,
        frame_count,
    )


def write_video_header(w: ByteWriter, header: VideoHeader) -> None:
    """Inverse of `read_video_header`."""
    w.u16(header.width)
    w.u16(header.height)
    w.u8(header.chroma_format)
    w.u8(header.bit_depth)
    w.u8(header.chroma_siting)
    w.u8(header.full_range)
    w.u8(header.colour_primaries)
    w.u8(header.transfer_characteristics)
    w.u8(header.matrix_coefficients)
    w.u8(0)
    w.u16(header.sample_aspect[0])
    w.u16(header.sample_aspect[1])
    w.u32(header.frame_rate.numerator)
    w.u32(header.frame_rate.denominator)
    w.u32(header.frame_count)


@dataclass(frozen=True, slots=True)
class Requant:
    """How a layer's accumulator becomes levels or samples (spec section "Re-quantization")."""

    bias_shift: int  # 0..23: a bias level counts 2**bias_shift accumulator units
    shift: int  # 0..23: accumulator units per table index, as a power of two
    multiplier: int  # 1..65535: table index -> fixed point
    gain: int = 0  # 1..65535, not in the head: GELU in fixed point -> output levels
    zero_point: int = 0  # 0..255, in "stem" and "up" layers: the level that means 0


@dataclass(frozen=True, slots=True)
class LayerHeader:
    """What a segment's header says about one layer."""

    weight_table: Table
    bias_table: Table
    requant: Requant


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What stands in a SEGM payload before the range-coded levels."""

    first_frame: int  # its number in the video
    frame_count: int  # 1..2048
    model: ModelConfig
    embed_zero_point: int  # 0..255
    embed_tables: tuple[Table, ...]  # the first frame's, then one per channel for the rest
    layers: tuple[LayerHeader, ...]
    coded_words: int  # 32-bit words of range-coded levels that follow the header


_TABLE = struct.Struct("<HBB")  # max_level, zero, decay


def _read_table(r: ByteReader, element: str) -> Table:
    offset = r.offset
    max_level, zero, decay = _TABLE.unpack(r.raw(_TABLE.size, element))
    if max_level > MAX_LEVEL:
        raise FileError(
            f"value {max_level} is not in 0..{MAX_LEVEL}",
            element=f"{element}.max_level",
            offset=offset,
        )
    if decay > MAX_DECAY:
        raise FileError(
            f"value {decay} is not in 0..{MAX_DECAY}", element=f"{element}.decay", offset=offset + 3
        )
    return Table(max_level, zero, decay)


def _write_table(w: ByteWriter, table: Table) -> None:
    w.u16(table.max_level)
    w.u8(table.zero)
    w.u8(table.decay)


def _read_kernel(r: ByteReader, element: str) -> int:
    at = r.offset
    kernel = r.u8(element, 1, 7)
    if kernel % 2 == 0:
        raise FileError(f"even kernel {kernel}", element=element, offset=at)
    return kernel


def read_model(r: ByteReader) -> ModelConfig:
    """Parses the network's structure (spec section "Network"). FileError if it breaks a rule."""
    embed_channels = r.u16("embed_channels", 1, 1024)
    stem_channels = r.u16("stem_channels", 1, 1024)
    stages = tuple(
        StageConfig(
            r.u8(f"stage[{n}].stride", 1, 8),
            _read_kernel(r, f"stage[{n}].kernel"),
            r.u16(f"stage[{n}].channels", 1, 1024),
            r.u8(f"stage[{n}].residuals", 0, 15),
        )
        for n in range(r.u8("stage_count", 1, 8))
    )
    return ModelConfig(embed_channels, stem_channels, stages, _read_kernel(r, "head_kernel"))


def write_model(w: ByteWriter, model: ModelConfig) -> None:
    """Inverse of `read_model`."""
    w.u16(model.embed_channels)
    w.u16(model.stem_channels)
    w.u8(len(model.stages))
    for stage in model.stages:
        w.u8(stage.stride)
        w.u8(stage.kernel)
        w.u16(stage.channels)
        w.u8(stage.residuals)
    w.u8(model.head_kernel)


def _read_layer(r: ByteReader, spec: LayerSpec) -> LayerHeader:
    name = spec.name
    return LayerHeader(
        _read_table(r, f"{name}.weight_table"),
        _read_table(r, f"{name}.bias_table"),
        Requant(
            r.u8(f"{name}.bias_shift", 0, 23),
            r.u8(f"{name}.shift", 0, 23),
            r.u16(f"{name}.multiplier", 1),
            r.u16(f"{name}.gain", 1) if spec.kind != "head" else 0,
            r.u8(f"{name}.zero_point") if spec.kind in ("stem", "up") else 0,
        ),
    )


def _write_layer(w: ByteWriter, spec: LayerSpec, layer: LayerHeader) -> None:
    _write_table(w, layer.weight_table)
    _write_table(w, layer.bias_table)
    w.u8(layer.requant.bias_shift)
    w.u8(layer.requant.shift)
    w.u16(layer.requant.multiplier)
    if spec.kind != "head":
        w.u16(layer.requant.gain)
    if spec.kind in ("stem", "up"):
        w.u8(layer.requant.zero_point)


def read_segment_start(r: ByteReader) -> tuple[int, int, ModelConfig]:
    """first_frame, frame_count and model: what the level's limits are checked against."""
    return r.u32("first_frame"), r.u16("frame_count", 1), read_model(r)


def read_segment_header(
    r: ByteReader, start: tuple[int, int, ModelConfig], specs: tuple[LayerSpec, ...]
) -> SegmentHeader:
    """The rest of the header after `read_segment_start`, whose result is `start`.

    specs: the layers of its model.
    """
    first_frame, frame_count, model = start
    embed_zero_point = r.u8("embed_zero_point")
    embed_tables = [_read_table(r, "embed_table.first")]
    if frame_count > 1:
        embed_tables += [_read_table(r, f"embed_table[{n}]") for n in range(model.embed_channels)]
    return SegmentHeader(
        first_frame,
        frame_count,
        model,
        embed_zero_point,
        tuple(embed_tables),
        tuple(_read_layer(r, spec) for spec in specs),
        r.u32("coded_words"),
    )


def write_segment_header(
    w: ByteWriter, header: SegmentHeader, specs: tuple[LayerSpec, ...]
) -> None:
    """Inverse of `read_segment_start` and `read_segment_header`."""
    w.u32(header.first_frame)
    w.u16(header.frame_count)
    write_model(w, header.model)
    w.u8(header.embed_zero_point)
    for table in header.embed_tables:
        _write_table(w, table)
    for spec, layer in zip(specs, header.layers, strict=True):
        _write_layer(w, spec, layer)
    w.u32(header.coded_words)
