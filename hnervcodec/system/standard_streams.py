"""Standard input, output and errors, also of a command that was started without one of them."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from hnervcodec.errors import OutputError, SourceError


def prepare() -> None:
    """What every command needs of its standard streams, before it opens any file."""
    _replace_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names are printed as they are


def _replace_closed() -> None:
    """Puts something in the place of each standard stream that is closed, as by `>&-` in a shell.

    Reading from such an input is a SourceError and writing to such an output an OutputError; what
    is written to such errors is lost. If nothing took its place, the next file to be opened would
    get its descriptor, and with it what libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            _REPLACE[number]()


class _Closed(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, _: Any) -> int:
        raise SourceError("standard input is closed")

    def write(self, _: Any) -> int:
        raise OutputError("cannot write to standard output: it is closed")


def _replace_input() -> None:
    sys.stdin = io.TextIOWrapper(_Closed(), encoding="utf-8")


def _replace_output() -> None:
    # Nothing is held back, so that nothing is left to be written at the end.
    sys.stdout = io.TextIOWrapper(_Closed(), encoding="utf-8", write_through=True)


def _replace_errors() -> None:
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)


_REPLACE = (_replace_input, _replace_output, _replace_errors)
