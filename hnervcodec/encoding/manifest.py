"""The manifest of a folder of `.hnv` files: what each was made of, and became.

A line of JSON for each file, written when it is finished, so that whatever ends an encode of many
videos leaves those that are done.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hnervcodec.errors import OutputError
from hnervcodec.system.atomic_files import open_complete_or_absent

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A line of the manifest: a finished video.

    name: of the `.hnv` file; source: of what it was made of; both with / and without the folders
    that all have in common. bytes: of the file. psnr: in dB, over all samples. sha256: of the file.
    made_from: tells whether source or options have changed since.
    """

    name: str
    source: str
    frames: int
    bytes: int
    psnr: float
    sha256: str
    made_from: str


@dataclass(frozen=True)
class EncodedVideo:
    """What became of one of many videos.

    source, output: paths. record: its line of the manifest; None if it has failed, and `error` says
    why. notes: what of the source was lost or converted. was_finished: nothing had to be done.
    """

    source: str
    output: str
    record: Record | None = None
    error: str = ""
    notes: tuple[str, ...] = ()
    was_finished: bool = False


class Manifest:
    """`manifest.jsonl` in the folder of the outputs. Several processes may add to it."""

    def __init__(self, folder: Path):
        self._folder, self.path = folder, folder / MANIFEST

    def read(self) -> dict[str, Record]:
        """Each file's line, by its name. A last line that was not written to its end counts for
        nothing; OutputError if the file is something else."""
        if not self.path.exists():
            return {}
        try:
            lines = self.path.read_bytes().split(b"\n")
        except OSError as error:
            raise OutputError(f"cannot read {self.path}: {error.strerror}") from error
        found = {}
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                facts = json.loads(line)
                record = Record(**{known.name: facts[known.name] for known in fields(Record)})
                found[record.name] = record
            except (ValueError, TypeError, LookupError) as error:
                if number == len(lines):
                    break
                raise OutputError(
                    f"{self.path} is no manifest of ours (line {number}): move it away"
                ) from error
        return found

    def add(self, record: Record) -> None:
        """Another line, on the disk when this returns."""
        with self._locked(), open(self.path, "a+b") as file:
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                if file.read(1) != b"\n":  # a line that was not written to its end
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())

    def tidy(self) -> None:
        """One line for each file that is there, ordered by name."""
        with self._locked():
            found = self.read()
            kept = [found[name] for name in sorted(found) if (self._folder / name).exists()]
            data = b"".join(map(_line, kept))
            if self.path.exists() and data != self.path.read_bytes():
                with open_complete_or_absent(self.path) as file:
                    file.write(data)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        held = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            os.close(held)


def _line(record: Record) -> bytes:
    return json.dumps(asdict(record)).encode() + b"\n"


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
