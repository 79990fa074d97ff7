"""Output files that appear under their name only when they are complete."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from hnervcodec.errors import OutputError


@contextmanager
def complete_or_absent(path: str | Path, folder: Path | None = None) -> Iterator[Path]:
    """Yields the name of a new, empty file, which becomes `path` at the end of the block, or is
    removed if the block fails.

    The file is made exclusively, under a name that nobody can foresee, and with the mode of the
    file that it is to replace. A symbolic link is written through. What is neither a file nor
    absent, as a device or a pipe, is yielded itself. Names are absolute, as libav takes
    `take:1.mp4` for an address.
    folder: where the new file is until then, by default where it will be; on the same disk.
    OutputError for every OSError.
    """
    with _told(path):
        path = Path(path)
        replaced = _status(path)
        if replaced and stat.S_ISDIR(replaced.st_mode):
            raise OutputError(f"cannot write {path}: it is a folder")
        if replaced and not stat.S_ISREG(replaced.st_mode):
            yield path.absolute()
            return
        if replaced and not os.access(path, os.W_OK):
            raise OutputError(f"cannot write {path}: permission denied")
        target = Path(os.path.realpath(path))
        # A name holds up to 255 bytes: those of 40 characters and of what we add.
        name = f".{target.name[:40]}.{token_hex(8)}.part"
        partial = (folder.absolute() if folder else target.parent) / name
        try:
            _make(partial, replaced)
            yield partial
            os.replace(partial, target)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


@contextmanager
def open_complete_or_absent(path: str | Path, folder: Path | None = None) -> Iterator[BinaryIO]:
    """The same as an open binary file, flushed to the disk before it gets its name."""
    with complete_or_absent(path, folder) as name, open(name, "wb") as file:
        yield file
        file.flush()
        if name.is_file():
            os.fsync(file.fileno())


@contextmanager
def _told(path: str | Path) -> Iterator[None]:
    """OSErrors, but for a closed pipe, become OutputErrors about `path`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _status(path: Path) -> os.stat_result | None:
    """None if there is no such file; other than `Path.exists`, an OSError for links in a circle."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _make(path: Path, replaced: os.stat_result | None) -> None:
    """Makes an empty file, with the owner and the mode of `replaced` as far as we may."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    file = os.open(path, flags, 0o600 if replaced else 0o666)
    try:
        if replaced:
            own, mode = os.fstat(file), stat.S_IMODE(replaced.st_mode) & 0o777
            if own.st_gid != replaced.st_gid:
                try:
                    os.fchown(file, -1, replaced.st_gid)
                except OSError:
                    mode &= ~0o070  # it was for another group
            if own.st_uid != replaced.st_uid:
                with suppress(OSError):
                    os.fchown(file, replaced.st_uid, -1)
            with suppress(OSError):  # where files have no modes of their own
                os.fchmod(file, mode)
    finally:
        os.close(file)
