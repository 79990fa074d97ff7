"""Errors that libav reports but goes on from, as of a checksum that is wrong: the only sign of many
kinds of damage."""

from __future__ import annotations

from types import TracebackType

from av import logging


class ErrorCount:
    """Counts, as a context manager, the errors that libav reports inside; nothing is printed.

    count: their number, known after the block. names: who reported those of this thread, such as
    "h264" or "mpegts".
    """

    def __enter__(self) -> ErrorCount:
        self._level = logging.get_level()
        if self._level is None:  # else whoever asked for the messages goes on getting them
            logging.set_level(logging.ERROR)
        self._before = logging.get_last_error()[0]
        self._capture = logging.Capture()
        self._messages = self._capture.__enter__()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._capture.__exit__(None, None, None)
        logging.set_level(self._level)
        self.count = logging.get_last_error()[0] - self._before
        self.names = [name for level, name, _ in self._messages if level <= logging.ERROR]
