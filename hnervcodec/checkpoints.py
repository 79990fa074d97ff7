"""Unfinished work on the disk: a folder beside the output, so that an interrupted encode, whatever
stopped it, goes on where it was.

    out.hnv.job/
        job.json        what is being encoded, and how; other settings do not go on from here
        scan            what a look at all frames has found: the segments, the times
        N-BUDGET.fit    the running fit of the segment that begins with frame N, kept every few
                        seconds
        N-BUDGET.segm   what it became
        N.done          the segment as the file will hold it

Every file appears under its name only when complete.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hnervcodec.bitstream import crc32
from hnervcodec.errors import HnervError, OutputError, UsageError
from hnervcodec.files import open_complete_or_absent

INTERVAL = 2.0  # seconds at least between two checkpoints of a fit: what a power cut may cost
DESCRIPTION = "job.json"
SHARE = 0.02  # of the time that they may take
_WORK = (".fit", ".segm", ".done")
_FACTS = (DESCRIPTION, "scan")


class Job:
    """The work on one output, of one process at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._described = folder / DESCRIPTION

    @classmethod
    def open(cls, output: str | Path, settings: dict[str, Any], resume: bool, anew: bool) -> Job:
        """settings: all that decides the output's bytes, in JSON's types. `resume`: go on with what
        is there, if anything; `anew`: discard it. Neither: refuse to lose it."""
        job = cls(Path(f"{output}.job"))
        try:
            job.folder.mkdir(exist_ok=True)
            job._lock()
        except OSError as error:
            raise OutputError(f"cannot write {job.folder}: {error.strerror}") from error
        try:
            if job.is_begun and not anew:
                if not resume:
                    raise UsageError(
                        f"{job.folder} holds an unfinished encode: go on with --resume, or "
                        "discard it with -y"
                    )
                job._check(settings)
            else:
                job._clear()
                with open_complete_or_absent(job._described) as file:
                    file.write(json.dumps(settings, indent=1).encode())
        except BaseException:
            os.close(job._held)
            raise
        return job

    def _lock(self) -> None:
        self._held = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._held)
            raise UsageError(f"another hnv is at work in {self.folder}") from error

    def _check(self, settings: dict[str, Any]) -> None:
        try:
            begun = json.loads(self._described.read_text())
            changed = sorted(
                name for name in {*begun, *settings} if begun.get(name) != settings.get(name)
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"{self._described} is damaged: discard it with -y") from error
        if changed:
            name = changed[0]
            raise UsageError(
                f"{self.folder} was begun with another {name} ({begun.get(name)!r}, now "
                f"{settings.get(name)!r}): resume with the same, or discard it with -y"
            )

    def _clear(self) -> None:
        """Removes what is ours; a folder that holds anything else is not."""
        found = list(self.folder.iterdir())
        for path in found:
            if path.suffix not in (*_WORK, ".part") and path.name not in _FACTS:
                raise UsageError(
                    f"{self.folder} holds {path.name}, which is not ours: move it away"
                )
        for path in found:
            path.unlink()

    @property
    def is_begun(self) -> bool:
        """Whether there is anything that would be lost."""
        return any(path.suffix in _WORK for path in self.folder.iterdir())

    def close(self, is_finished: bool) -> None:
        """Leaves what is unfinished, if there is any."""
        try:
            with suppress(OSError, HnervError):  # nothing of that is worth an output
                if is_finished or not self.is_begun:
                    self._clear()
                    self.folder.rmdir()
        finally:
            os.close(self._held)


def kept(folder: Path | None, name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives, now or when it was made before; nothing is kept without a `folder`, or
    where this machine does not see it."""
    if folder is None or not folder.is_dir():
        return make()
    path = folder / name
    if not path.exists():
        made = make()
        with open_complete_or_absent(path) as file:
            file.write(made + crc32(made).to_bytes(4, "little"))
        path.with_suffix(".fit").unlink(missing_ok=True)
    return read(path)


def read(path: Path) -> bytes:
    """What `kept` has written; HnervError if it is no longer that."""
    data = path.read_bytes()
    if crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
        raise HnervError(f"{path} is damaged: remove it, and it is made again")
    return data[:-4]


def save(path: Path, state: dict[str, Any]) -> None:
    """state: of plain types and tensors."""
    import torch

    data = io.BytesIO()  # as torch reports a full disk as an error of its own
    torch.save(state, data)
    with open_complete_or_absent(path) as file:
        file.write(data.getbuffer())


def load(path: Path) -> dict[str, Any]:
    import torch

    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise HnervError(f"{path} is damaged: remove it, and its fit begins again") from error
    return state
