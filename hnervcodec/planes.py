"""Planes of a frame and their 2x2 packing (spec section "Packing").

A frame is a tuple of planes `[height, width]`, uint8 for 8-bit video and uint16 above: Y, or
Y, Cb, Cr. Packed, every plane is split into the phases of a 2x2 luma block, so that all channels
share one resolution: 4 channels for 4:0:0, 6 for 4:2:0, 8 for 4:2:2, 12 for 4:4:4.
"""

from __future__ import annotations

import numpy as np

Planes = tuple[np.ndarray, ...]

# chroma_format (H.26x chroma_format_idc) -> name and phases (rows, columns) of each plane in a
# 2x2 luma block
CHROMA_NAMES = ("4:0:0", "4:2:0", "4:2:2", "4:4:4")
PHASES = (
    ((2, 2),),
    ((2, 2), (1, 1), (1, 1)),
    ((2, 2), (2, 1), (2, 1)),
    ((2, 2), (2, 2), (2, 2)),
)


def packed_channels(chroma_format: int) -> int:
    """Channels of a packed frame: 4 for 4:0:0, 6 for 4:2:0, 8 for 4:2:2, 12 for 4:4:4."""
    return sum(rows * columns for rows, columns in PHASES[chroma_format])


def packed_size(width: int, height: int) -> tuple[int, int]:
    """(height, width) of the packed channels of a `width` x `height` frame."""
    return -(-height // 2), -(-width // 2)


def plane_shapes(width: int, height: int, chroma_format: int) -> list[tuple[int, int]]:
    """(height, width) of each plane; chroma is ceil(size / subsampling)."""
    return [
        (-(-height * rows // 2), -(-width * columns // 2))
        for rows, columns in PHASES[chroma_format]
    ]


def pack(planes: Planes, chroma_format: int, height: int, width: int) -> np.ndarray:
    """[channels, height, width] in the planes' dtype; the last row and column are repeated."""
    channels = []
    for plane, (rows, columns) in zip(planes, PHASES[chroma_format], strict=True):
        missing = (height * rows - plane.shape[0], width * columns - plane.shape[1])
        padded = np.pad(plane, ((0, missing[0]), (0, missing[1])), mode="edge")
        channels += [padded[r::rows, c::columns] for r in range(rows) for c in range(columns)]
    return np.stack(channels)


def unpack(packed: np.ndarray, chroma_format: int, width: int, height: int) -> Planes:
    """The planes of a `width` x `height` frame out of [channels, h, w], cropped at the top left."""
    planes, channel = [], 0
    shapes = plane_shapes(width, height, chroma_format)
    for shape, (rows, columns) in zip(shapes, PHASES[chroma_format], strict=True):
        plane = np.empty(shape, packed.dtype)
        for r in range(rows):
            for c in range(columns):
                target = plane[r::rows, c::columns]
                target[...] = packed[channel, : target.shape[0], : target.shape[1]]
                channel += 1
        planes.append(plane)
    return tuple(planes)


def plane_bytes(planes: Planes) -> bytes:
    """Planar samples in raster order, one byte each or two (little-endian): what CRCs cover."""
    return b"".join(
        plane.astype("<u2", copy=False).tobytes() if plane.dtype.itemsize == 2 else plane.tobytes()
        for plane in planes
    )
