"""Output files that appear under their name only when complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from hnervcodec.errors import OutputError


@contextmanager
def complete_or_absent(path: str | Path, folder: Path | None = None) -> Iterator[Path]:
    """Yields a temporary name in `folder`, by default that of `path`, which must be of the same
    disk; renames it at the end of the block, or removes it if the block fails. Devices and pipes
    are given as they are."""
    path = Path(path)
    if path.exists() and not path.is_file():
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder")
        try:
            yield path
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        return
    partial = (folder or path.parent) / f".{path.name}.{token_hex(4)}.part"
    try:
        if path.exists() and not os.access(path, os.W_OK):
            raise OutputError(f"cannot write {path}: permission denied")
        partial.touch()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def open_complete_or_absent(path: str | Path, folder: Path | None = None) -> Iterator[BinaryIO]:
    """The same as an open binary file, flushed to the disk before it gets its name."""
    with complete_or_absent(path, folder) as name, open(name, "wb") as file:
        yield file
        file.flush()
        if name != Path(path):
            os.fsync(file.fileno())


def cache_folder() -> Path:
    """Our folder of what can be made again; nobody else can write into it, since we run what
    lies there. OSError if there is none."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "hnervcodec"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.stat()
    if facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by others")
    return folder
