"""Every failure the library reports, sorted by who is at fault.

    HnervError
    ├── FileError          the .hnv file is damaged: names the syntax element and its byte offset
    │   └── TruncatedError     it ends too early
    ├── UnsupportedError   the file is sound, but asks for something this version does not know
    ├── LimitError         the file or the request exceeds a limit of its level
    ├── SourceError        the input cannot be opened, or is no video that can be encoded
    ├── OutputError        the result cannot be written
    ├── UsageError         the caller asked for something impossible (also a ValueError)
    └── PartialError       some of many videos have failed, the others are done

`exit_code` is what the command line returns for each class. 0 is success, 130 Ctrl-C, 141 a closed
pipe and 143 termination.
"""

from __future__ import annotations


class HnervError(Exception):
    """Base of every error raised on purpose by this package."""

    exit_code = 1


class FileError(HnervError):
    """A `.hnv` file breaks a rule of the specification.

    `element` is the syntax element (spec name), `offset` the byte position in the file, or in the
    payload when the element lies inside one (`None` where neither applies).
    """

    exit_code = 3

    def __init__(self, message: str, *, element: str = "", offset: int | None = None):
        place = f" ({element}" if element else ""
        if offset is not None:
            place += f"{' ' if place else ' ('}at byte {offset}"
        super().__init__(message + (place + ")" if place else ""))
        self.element, self.offset = element, offset


class TruncatedError(FileError):
    """The data ends before a syntax element does."""


class UnsupportedError(HnervError):
    """A sound file that needs a newer decoder or another profile."""

    exit_code = 4


class LimitError(HnervError):
    """A declared size lies beyond what the level allows; raised before anything is allocated."""

    exit_code = 5


class SourceError(HnervError):
    """The input cannot be opened, holds no video, or changes its geometry half-way."""

    exit_code = 6


class OutputError(HnervError):
    """The destination cannot be written (missing folder, full disk, missing encoder)."""

    exit_code = 7


class UsageError(HnervError, ValueError):
    """Arguments that contradict each other or the file."""

    exit_code = 2


class PartialError(HnervError):
    """Some of many videos have failed; the others are done."""

    exit_code = 9


class Terminated(KeyboardInterrupt):
    """SIGTERM: to be treated as Ctrl-C is."""
