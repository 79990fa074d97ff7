"""Files with some bytes changed."""

from vectors import repair


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    """`data` with `new` at `offset`, and checksums that are right again."""
    return repair(data[:offset] + new + data[offset + len(new) :])
