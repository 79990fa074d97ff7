"""Little-endian fields, out of which `headers`, `ancillary` and `container` build their structures.

`ByteReader` cannot overrun: each read names its syntax element, checks the remaining length and
raises `TruncatedError` with the element's name and offset. Reads and writes mirror each other.
"""

from __future__ import annotations

import zlib

import numpy as np

from hnervcodec.errors import FileError, TruncatedError


def crc32(data: bytes | bytearray | memoryview) -> int:
    """CRC-32 as in zlib, PNG and gzip (polynomial 0xEDB88320, reflected)."""
    return zlib.crc32(data)


class ByteReader:
    """Reads unsigned little-endian integers from `data`.

    base: offset of `data` in the file, which is added to the offsets in error messages. Every read
    raises FileError for a value outside of low..high, TruncatedError where the data ends.
    """

    def __init__(self, data: bytes | memoryview, base: int = 0):
        self._data, self._base, self.position = memoryview(data), base, 0

    @property
    def offset(self) -> int:
        """Absolute offset of the next byte, for error messages."""
        return self._base + self.position

    @property
    def remaining(self) -> int:
        """Bytes that are not read yet."""
        return len(self._data) - self.position

    def raw(self, size: int, element: str) -> memoryview:
        """The next `size` bytes, not copied."""
        if size > self.remaining:
            raise TruncatedError(
                f"data ends {size - self.remaining} bytes too early",
                element=element,
                offset=self.offset,
            )
        start, self.position = self.position, self.position + size
        return self._data[start : self.position]

    def _uint(self, size: int, element: str, low: int, high: int | None) -> int:
        start, stop = self.position, self.position + size
        if stop > len(self._data):
            self.raw(size, element)  # which raises
        value = int.from_bytes(self._data[start:stop], "little")
        self.position = stop
        if value < low or (high is not None and value > high):
            span = f"{low}..{high}" if high is not None else f">= {low}"
            at = self._base + start
            raise FileError(f"value {value} is not in {span}", element=element, offset=at)
        return value

    def u8(self, element: str, low: int = 0, high: int | None = None) -> int:
        """A byte, `low` to `high`; FileError about `element` if it is missing or out of range."""
        return self._uint(1, element, low, high)

    def u16(self, element: str, low: int = 0, high: int | None = None) -> int:
        """Two bytes, the lower first, as in `u8`."""
        return self._uint(2, element, low, high)

    def u32(self, element: str, low: int = 0, high: int | None = None) -> int:
        """Four bytes, the lowest first, as in `u8`."""
        return self._uint(4, element, low, high)

    def u64(self, element: str) -> int:
        """Eight bytes, the lowest first; FileError if they are not there."""
        return self._uint(8, element, 0, None)

    def uv(self, element: str, low: int = 0, high: int = (1 << 63) - 1) -> int:
        """A number of at most 63 bits in groups of seven, the lowest group first; the top bit of a
        byte says that another one follows."""
        offset = self.offset
        value = shift = 0
        while True:
            byte = self.u8(element)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift > 56:
                raise FileError("a number of more than 63 bits", element=element, offset=offset)
        if shift > 7 and byte == 0:
            raise FileError("a number with needless bytes", element=element, offset=offset)
        if not low <= value <= high:
            raise FileError(
                f"value {value} is not in {low}..{high}", element=element, offset=offset
            )
        return value

    def uvs(self, count: int, element: str) -> np.ndarray:
        """int64 [count]: as many `uv` at once; a table of packets may have a million of them."""
        longest = np.frombuffer(self._data, np.uint8)[self.position :][: 9 * count]
        ends = np.flatnonzero(longest < 128)[:count]
        starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
        sizes = ends - starts + 1
        if sizes.max(initial=0) > 9 or len(ends) < count <= len(longest) // 9:
            raise FileError("a number of more than 63 bits", element=element, offset=self.offset)
        if len(ends) < count:
            raise TruncatedError(
                f"data ends after {len(ends)} of {count} numbers",
                element=element,
                offset=self._base + len(self._data),
            )
        if np.any((sizes > 1) & (longest[ends] == 0)):
            raise FileError("a number with needless bytes", element=element, offset=self.offset)
        values = np.zeros(count, np.int64)
        for n in range(sizes.max(initial=0)):
            inside = sizes > n
            groups = longest[starts[inside] + n].astype(np.int64) & 127
            values[inside] |= groups << (7 * n)
        self.position += int(sizes.sum())
        return values

    def sv(self, element: str) -> int:
        """A signed number n of at most 53 bits, as 2 n for n >= 0, else -2 n - 1."""
        value = self.uv(element, 0, (1 << 54) - 1)
        return value >> 1 if value % 2 == 0 else -(value + 1 >> 1)

    def end(self, element: str) -> None:
        """FileError if bytes are left: every byte must be accounted for."""
        if self.remaining:
            raise FileError(
                f"{self.remaining} unexpected bytes at the end", element=element, offset=self.offset
            )


class ByteWriter:
    """Collects unsigned little-endian integers; values out of range are our own mistakes."""

    def __init__(self) -> None:
        self._parts = bytearray()

    def __len__(self) -> int:
        return len(self._parts)

    def raw(self, data: bytes | memoryview) -> None:
        """Bytes as they are."""
        self._parts += data

    def u8(self, value: int) -> None:
        """A number of one byte; OverflowError if it needs more."""
        self._parts += value.to_bytes(1, "little")

    def u16(self, value: int) -> None:
        """A number of two bytes, the lower first."""
        self._parts += value.to_bytes(2, "little")

    def u32(self, value: int) -> None:
        """A number of four bytes, the lowest first."""
        self._parts += value.to_bytes(4, "little")

    def u64(self, value: int) -> None:
        """A number of eight bytes, the lowest first."""
        self._parts += value.to_bytes(8, "little")

    def uv(self, value: int) -> None:
        """A number >= 0 in groups of seven bits, the lowest first; bit 7 says that more follow."""
        while value > 127:
            self.u8(value & 127 | 128)
            value >>= 7
        self.u8(value)

    def uvs(self, values: np.ndarray) -> None:
        """Each of int64 `values` >= 0 as a `uv`."""
        sizes = np.ones(len(values), np.int64)
        for n in range(1, 9):
            sizes += values >> (7 * n) > 0
        starts = np.cumsum(sizes) - sizes
        groups = np.empty(int(sizes.sum()), np.uint8)
        for n in range(int(sizes.max(initial=0))):
            inside = sizes > n
            follows = (sizes[inside] > n + 1) * np.int64(128)
            groups[starts[inside] + n] = values[inside] >> (7 * n) & 127 | follows
        self._parts += groups.tobytes()

    def sv(self, value: int) -> None:
        """A number of either sign as the `uv` 2n if n >= 0, else -2n - 1."""
        self.uv(2 * value if value >= 0 else -2 * value - 1)

    def getvalue(self) -> bytes:
        """All that was written."""
        return bytes(self._parts)
