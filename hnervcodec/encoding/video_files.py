"""Which videos folders and patterns mean, and the names of the `.hnv` files they become."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from hnervcodec.encoding.job_folder import LONGEST_NAME
from hnervcodec.errors import SourceError

ENDINGS = frozenset(
    (
        ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
        ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
    )
)  # fmt: skip


def find(sources: Sequence[str], folder: Path) -> tuple[str, list[str]]:
    """The paths of the videos that `sources` mean, in order, each once, and the folder that all are
    in. Of a folder these are all below it that end as videos do, but for hidden files, and for what
    is below the output `folder`; of a pattern such as clips/*.mp4 the files that match.

    SourceError if there are none.
    """
    found: dict[str, str] = {}
    roots = []
    for source in sources:
        if os.path.isdir(source):
            below = list(_in_folder(source, folder))
            if not below:
                raise SourceError(f"{source} holds no videos: {' '.join(sorted(ENDINGS))}")
            roots.append(os.path.abspath(source))
        elif is_pattern(source):
            below = sorted(path for path in glob.glob(source, recursive=True) if _is_file(path))
            if not below:
                raise SourceError(f"no file matches {source}")
            roots += [os.path.dirname(os.path.abspath(path)) for path in below]
        else:
            below = [source]
            roots.append(os.path.dirname(os.path.abspath(source)))
        for path in below:
            found.setdefault(os.path.abspath(path), path)
    return os.path.commonpath(roots), list(found.values())


def is_pattern(source: str) -> bool:
    """Whether `source` is a pattern of names, and no name itself."""
    return glob.has_magic(source) and not os.path.exists(source)


def _is_file(path: str) -> bool:
    return not os.path.isdir(path)


def _in_folder(source: str, folder: Path) -> Iterator[str]:
    own = os.path.realpath(folder)
    for parent, folders, files in os.walk(source):  # which follows no links to folders
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(parent, name)) != own
        )
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in ENDINGS and not name.startswith("."):
                yield os.path.join(parent, name)


def output_names(sources: Sequence[str]) -> list[str]:
    """The name of each source's `.hnv` file: a.hnv for a.mp4, but a.mp4.hnv and a.mkv.hnv where
    both are there, also where they differ only in case."""
    stems = [f"{os.path.splitext(source)[0]}.hnv" for source in sources]
    whole = [f"{source}.hnv" for source in sources]
    names = stems
    while True:
        count = Counter(map(str.casefold, names))
        unique = [
            name if count[name.casefold()] == 1 else full
            for name, full in zip(names, whole, strict=True)
        ]
        if unique == names:
            return [_shortened(name) for name in names]
        names = unique


def _shortened(name: str) -> str:
    """A name that file systems take."""
    parent, base = os.path.split(name)
    data = os.fsencode(base)
    if len(data) <= LONGEST_NAME:
        return name
    ending = f"-{hashlib.sha256(data).hexdigest()[:16]}.hnv"
    kept = data[: LONGEST_NAME - len(ending)].decode(errors="ignore")
    return os.path.join(parent, kept + ending)
