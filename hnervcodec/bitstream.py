"""Little-endian fields: the leaf under `syntax` and `container`.

`ByteReader` cannot overrun: each read names its syntax element, checks the remaining length and
raises `TruncatedError` with the element's name and offset. Reads and writes mirror each other.
"""

from __future__ import annotations

import zlib

from hnervcodec.errors import FileError, TruncatedError


def crc32(data: bytes | bytearray | memoryview) -> int:
    """CRC-32 as in zlib, PNG and gzip (polynomial 0xEDB88320, reflected)."""
    return zlib.crc32(data)


class ByteReader:
    """Reads unsigned little-endian integers from `data`; `base` is added to reported offsets."""

    def __init__(self, data: bytes | memoryview, base: int = 0):
        self._data, self._base, self.position = memoryview(data), base, 0

    @property
    def offset(self) -> int:
        """Absolute offset of the next byte, for error messages."""
        return self._base + self.position

    @property
    def remaining(self) -> int:
        return len(self._data) - self.position

    def raw(self, size: int, element: str) -> memoryview:
        if size > self.remaining:
            raise TruncatedError(
                f"data ends {size - self.remaining} bytes too early",
                element=element,
                offset=self.offset,
            )
        start, self.position = self.position, self.position + size
        return self._data[start : self.position]

    def _uint(self, size: int, element: str, low: int, high: int | None) -> int:
        offset = self.offset
        value = int.from_bytes(self.raw(size, element), "little")
        if value < low or (high is not None and value > high):
            span = f"{low}..{high}" if high is not None else f">= {low}"
            raise FileError(f"value {value} is not in {span}", element=element, offset=offset)
        return value

    def u8(self, element: str, low: int = 0, high: int | None = None) -> int:
        return self._uint(1, element, low, high)

    def u16(self, element: str, low: int = 0, high: int | None = None) -> int:
        return self._uint(2, element, low, high)

    def u32(self, element: str, low: int = 0, high: int | None = None) -> int:
        return self._uint(4, element, low, high)

    def u64(self, element: str) -> int:
        return self._uint(8, element, 0, None)

    def end(self, element: str) -> None:
        """Every byte must be accounted for."""
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

    def raw(self, data: bytes) -> None:
        self._parts += data

    def u8(self, value: int) -> None:
        self._parts += value.to_bytes(1, "little")

    def u16(self, value: int) -> None:
        self._parts += value.to_bytes(2, "little")

    def u32(self, value: int) -> None:
        self._parts += value.to_bytes(4, "little")

    def u64(self, value: int) -> None:
        self._parts += value.to_bytes(8, "little")

    def getvalue(self) -> bytes:
        return bytes(self._parts)
