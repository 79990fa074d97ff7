"""Loaded segments, of all decoders of a process, within one bound of memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

from hnervcodec.bitstream.segment import QuantizedSegment
from hnervcodec.synthesis.network import Synthesis

CACHE_BYTES = 256 << 20  # that loaded segments may hold, unless a decoder says otherwise

Loaded = tuple[QuantizedSegment, Synthesis]


class SegmentCache:
    """The segments that were used last, as many as `limit` bytes hold; the last one in any case.

    Threads may share it: a segment that two of them ask for at once may be loaded twice.
    """

    def __init__(self, limit: int = CACHE_BYTES):
        self.limit = limit
        self._loaded: OrderedDict[Hashable, Loaded] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._loaded)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the segments hold, about."""
        return self._bytes

    def get(self, key: Hashable, load: Callable[[], Loaded]) -> Loaded:
        """The segment called `key`; `load` brings it if it is not there."""
        with self._lock:
            if found := self._loaded.get(key):
                self._loaded.move_to_end(key)
                return found
        loaded = load()
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = loaded
                self._bytes += loaded[1].nbytes
            while self._bytes > self.limit and len(self._loaded) > 1:
                self._bytes -= self._loaded.popitem(last=False)[1][1].nbytes
        return loaded

    def clear(self) -> None:
        """Forgets every segment, whoever holds the lock: in a forked process nobody does."""
        self.__init__(self.limit)  # type: ignore[misc]


SEGMENTS = SegmentCache()

if hasattr(os, "register_at_fork"):
    # A forked process has none of the threads that the networks compute with.
    os.register_at_fork(after_in_child=SEGMENTS.clear)
