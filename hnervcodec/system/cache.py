"""The user's cache: files that can be made again, some of which we run."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def cache_folder() -> Path:
    """Our folder in the user's cache, made if there is none; nobody else can put files there.

    OSError if there can be no such folder: without a home, on a disk that cannot be written, or
    where others can write into it or exchange a folder that it is in.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # ignored, as the XDG specification wants it
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise FileNotFoundError("there is no home for a cache")
    folder = Path(base) / "hnervcodec"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder.resolve()
    for above in folder.parents:
        status = above.stat()
        may_exchange = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
        if may_exchange or status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(f"{above} can be written by others")
    if not is_private(folder):
        raise PermissionError(f"{folder} can be written by others")
    return folder


def is_private(path: Path) -> bool:
    """Whether it is ours and nobody else can write to it; OSError if there is no such file."""
    status = path.lstat()
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
