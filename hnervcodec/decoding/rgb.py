"""Packed samples to RGB: of the commonest format in C, without libav; of others by
`media.colour`."""

from __future__ import annotations

import ctypes
from fractions import Fraction
from functools import cache, lru_cache
from threading import Lock
from typing import Protocol

import numpy as np

from hnervcodec.bitstream.fields import crc32
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.decoding import picture_library
from hnervcodec.planes import plane_bytes, unpack
from hnervcodec.system import kernels

# H.273's MatrixCoefficients -> what Cr adds to red and Cb to blue, and what Cb and Cr take from
# green, in 1/65536 of a luma sample's step of limited range
_BT601 = 104597, 132201, 25675, 53279  # the matrix of all other codes, too
_MATRICES = {
    1: (117489, 138438, 13975, 34925),
    4: (104448, 132798, 24759, 53109),
    7: (117579, 136230, 16907, 35559),
    9: (110013, 140363, 12277, 42626),
    10: (110013, 140363, 12277, 42626),
}
# H.273's ChromaLocType -> (horizontal, vertical) position of chroma in 1/4 of a chroma sample
_SITES = {0: (1, 2), 1: (2, 2), 2: (1, 1), 3: (2, 1), 4: (1, 3), 5: (2, 3)}
_CENTRED = 2, 2  # where nothing is said
_KNOWN = 24  # samples, of which the middle ones have the same weights, whatever their number


class _Picture(ctypes.Structure):
    """`Picture` of picture.c, which says what the fields mean."""

    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in (
                "height",
                "width",
                "luma",
                "black",
                "red_v",
                "green_v",
                "green_u",
                "blue_u",
            )
        ),
        ("across", ctypes.c_void_p),
        ("down", ctypes.c_void_p),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The fastest kernel that can be had here and is exact; None where there is none."""
    loaded = map(with_types, kernels.loadable(picture_library.KERNELS))
    return next(filter(_is_exact, loaded), None)


def with_types(lib: ctypes.CDLL) -> ctypes.CDLL:
    """picture.c's library, which ctypes then knows how to call."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    lib.hnv_picture.argtypes = [pointer, pointer, size, size, pointer, pointer, pointer]
    lib.hnv_picture.restype = None
    return lib


class RgbWriter(Protocol):
    """Makes RGB of packed samples. Threads may share it."""

    shape: tuple[int, int]  # height, width

    def write(self, packed: np.ndarray, out: np.ndarray) -> int:
        """Writes a frame into `out`, uint8 [3, H, W] with any strides. Returns the CRC-32 of its
        planes. packed: [channels, h, w]."""


def rgb_writer(
    header: VideoHeader,
    crop: tuple[int, int, int, int] | None = None,
    resize: tuple[int, int] | None = None,
) -> RgbWriter:
    """The fastest that serves; all give the bytes of `RgbConverter`, which says what crop and
    resize are."""
    lib = library() if not resize and PackedRgb.serves(header) else None
    if lib:
        return PackedRgb(header, lib, crop)
    return PlanesRgb(header, crop, resize)


class PlanesRgb:
    """By libav, of any format; see `RgbWriter`."""

    def __init__(
        self,
        header: VideoHeader,
        crop: tuple[int, int, int, int] | None,
        resize: tuple[int, int] | None,
    ):
        from hnervcodec.media.colour import RgbConverter  # loads libav

        self._format = header.chroma_format, header.width, header.height
        self._to_rgb = RgbConverter(header, crop=crop, resize=resize)
        self.shape = self._to_rgb.shape
        self._lock = Lock()

    def write(self, packed: np.ndarray, out: np.ndarray) -> int:
        """See `RgbWriter`."""
        planes = unpack(packed, *self._format)
        with self._lock:
            self._to_rgb.write(planes, out)
        return crc32(plane_bytes(planes))


class PackedRgb:
    """By C, of what `serves` says; see `RgbWriter`."""

    def __init__(
        self,
        header: VideoHeader,
        lib: ctypes.CDLL,
        crop: tuple[int, int, int, int] | None = None,
    ):
        self._lib, self._size = lib, (header.height, header.width)
        top, left, height, width = crop or (0, 0, *self._size)
        self.shape = height, width
        self._part = slice(top, top + height), slice(left, left + width)
        across, down = _SITES.get(header.chroma_siting, _CENTRED)
        columns = _weights(across, 1 << 14, header.width)
        count, block = header.width // 2, lib.hnv_picture_block()
        self._filled = -(-count // block) * block
        self._across = np.zeros((2, 4, self._filled), np.int16)
        self._across[..., :count] = columns.reshape(-1, 2, 4).transpose(1, 2, 0)
        self._down = _weights(down, 1 << 12, header.height)
        red_v, blue_u, green_u, green_v = _MATRICES.get(header.matrix_coefficients, _BT601)
        luma, black = (1 << 16) * 255 // 219, 16 << 9
        if header.full_range:
            red_v, blue_u, green_u, green_v = (
                n * 224 // 255 for n in (red_v, blue_u, green_u, green_v)
            )
            luma, black = 1 << 16, 0
        self._picture = _Picture(
            header.height // 2,
            count,
            _eighth(luma),
            black,
            *map(_eighth, (red_v, -green_v, -green_u, blue_u)),
            self._across.ctypes.data,
            self._down.ctypes.data,
        )

    @staticmethod
    def serves(header: VideoHeader) -> bool:
        """Whether the format is 4:2:0 of 8 bits, in even sizes that have a middle."""
        sizes = header.height, header.width
        is_420 = header.chroma_format == 1 and header.bit_depth == 8
        return is_420 and not any(size % 2 or size < _KNOWN for size in sizes)

    def write(self, packed: np.ndarray, out: np.ndarray) -> int:
        """See `RgbWriter`."""
        height, width = self._size
        packed = np.ascontiguousarray(packed)
        planes = np.empty(height * width * 3 // 2, np.uint8)
        scratch = np.empty(20 * (self._filled + 4), np.int16)
        fits = self.shape == self._size and out.flags.c_contiguous
        rgb = out if fits else np.empty((3, height, width), np.uint8)
        self._lib.hnv_picture(
            ctypes.addressof(self._picture),
            packed.ctypes.data,
            *packed.strides[:2],
            *(array.ctypes.data for array in (scratch, planes, rgb)),
        )
        if not fits:
            out[...] = rgb[:, *self._part]
        return crc32(planes.data)


def _eighth(value: int) -> int:
    """Of a number in 1/65536, rounded, in 1/8192."""
    return value + 4 >> 3


@lru_cache
def _weights(site: int, one: int, count: int) -> np.ndarray:
    """int16 [count, 4]: what `count` samples of luma take from four of chroma, from two before the
    one beside them on or, every second one, from one before. site: of chroma, in 1/4 of a sample of
    its own. one: the sum of weights. At the borders they are swscale's own, which rounds the
    place of the first sample towards zero and lets the outermost stand for those beyond."""
    weights = np.zeros((_KNOWN, 4), np.int16)
    for n in range(_KNOWN):
        place = n / 2 + (1 - site) / 4
        first, taps = int(place - 1.5), dict[int, float]()
        for at in range(first, first + 5):
            inside = min(max(at, 0), _KNOWN // 2 - 1)
            taps[inside] = taps.get(inside, 0) + _cubic(abs(at - place))
        unit, error = one / sum(taps.values()), 0.0
        for at, tap in sorted(taps.items()):
            if tap:
                weights[n, at - n // 2 + 2 - n % 2] = rounded = round(tap * unit + error)
                error += tap * unit - rounded
    half = _KNOWN // 2
    middle = np.tile(weights[half : half + 2], (count // 2 - half, 1))
    return np.concatenate([weights[:half], middle, weights[half:]])


def _cubic(distance: float) -> float:
    """Keys' bicubic kernel with swscale's parameter, 0.6."""
    c = int(0.6 * (1 << 24)) / (1 << 24)
    if distance < 1:
        return ((2 - c) * distance + c - 3) * distance**2 + 1
    if distance < 2:
        return ((-c * distance + 5 * c) * distance - 8 * c) * distance + 4 * c
    return 0


KNOWN_CRC = 0x15A8B732  # of planes and RGB of noise


def _is_exact(lib: ctypes.CDLL) -> bool:
    """Whether the library computes what it should, by a known-answer test."""
    header = VideoHeader(86, 30, 1, Fraction(25), 8, chroma_siting=1, matrix_coefficients=1)
    numbers = np.arange(6 * 16 * 45, dtype=np.uint32) * np.uint32(0x9E3779B1)
    made = np.empty((3, 30, 86), np.uint8)
    planes = PackedRgb(header, lib).write((numbers >> 24).astype(np.uint8).reshape(6, 16, 45), made)
    return planes ^ crc32(made.data) == KNOWN_CRC
