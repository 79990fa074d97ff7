"""The job folder: unfinished work, kept next to the output, so that an encode goes on where it was
whatever interrupted it.

    out.hnv.job/
        job.json        what is being encoded, and how; other settings do not go on from here
        scan            what a look at all frames has found: the segments, the times
        start.fit       the running fit that all segments begin from
        start.weights   what it became
        N-BUDGET.fit    the running fit of the segment that begins with frame N, kept every few
                        seconds
        N-BUDGET.segm   what it became
        N.done          the segment as the file will hold it

Every file appears under its name only when complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from hnervcodec.bitstream.fields import crc32
from hnervcodec.encoding import finished_encodes
from hnervcodec.errors import HnervError, OutputError, UsageError
from hnervcodec.system.atomic_files import open_complete_or_absent

DESCRIPTION = "job.json"
_WORK = (".weights", ".fit", ".segm", ".done")  # endings of what would be lost
_FACTS = (DESCRIPTION, "scan")  # what is quickly made again
LONGEST_NAME = 255  # bytes, on most file systems
# What reading a file may raise that holds something else than it should.
_WRONG_CONTENTS = (
    HnervError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
)  # fmt: skip
T = TypeVar("T")


def folder_of(output: str | Path) -> Path:
    """The job folder of `output`: its name and `.job`, on its own disk, also where it is a link."""
    path = Path(os.path.realpath(output) if os.path.islink(output) else output)
    if len(os.fsencode(path.name)) > LONGEST_NAME - len(".job"):
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
        return path.with_name(f"{path.name[:40]}-{digest[:16]}.job")
    return path.with_name(f"{path.name}.job")


class JobFolder:
    """The folder of the work on one output, open to one process at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._described = folder / DESCRIPTION

    @classmethod
    def open(
        cls, output: str | Path, settings: dict[str, Any], resume: bool, discard: bool
    ) -> JobFolder:
        """Makes or opens the folder of `output`.

        settings: all that decides the output's bytes, in JSON's types. resume: go on with what is
        there, if anything; discard: remove it. Neither: refuse to lose it.
        UsageError for a folder that is another encode's, another process's, or not ours.
        """
        job = cls(folder_of(output))
        try:
            job._open()
        except OSError as error:
            raise OutputError(f"cannot write {job.folder}: {error.strerror}") from error
        try:
            if job.is_begun and not discard:
                if not resume:
                    raise UsageError(
                        f"{job.folder} holds an unfinished encode: go on with "
                        "`resume=True`, or discard it with `discard=True`"
                    )
                job._check(settings)
            else:
                job._clear()
                with open_complete_or_absent(job._described) as file:
                    file.write(json.dumps(settings, indent=1).encode())
        except BaseException:
            job.close(is_finished=False)
            raise
        return job

    def _open(self) -> None:
        """Makes the folder, if there is none, and locks it; OSError if that fails."""
        try:
            self.folder.mkdir()
            is_new = True
        except FileExistsError:
            is_new = False
        if self.folder.is_symlink() or not self.folder.is_dir():
            raise UsageError(f"{self.folder} is not a folder of ours: move it away")
        self._held = os.open(self.folder, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            owner = os.fstat(self._held).st_uid
            # Where file systems choose the owner, a folder that we have made need not be ours.
            if not is_new and owner != os.geteuid():
                raise UsageError(
                    f"{self.folder} belongs to another user ({_user_name(owner)}): move it away, "
                    "or write another file"
                )
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check_files()
        except BlockingIOError as error:
            os.close(self._held)
            raise UsageError(f"another hnv is at work in {self.folder}") from error
        except BaseException:
            os.close(self._held)
            raise

    def _check_files(self) -> None:
        """Whether what has our names is a file: a pipe would keep us waiting for ever."""
        for path in self.folder.iterdir():
            if _is_our_name(path) and not stat.S_ISREG(path.lstat().st_mode):
                raise UsageError(f"{path} is not a file of ours: move it away")

    def _check(self, settings: dict[str, Any]) -> None:
        try:
            begun = json.loads(self._described.read_text())
            changed = sorted(
                name for name in {*begun, *settings} if begun.get(name) != settings.get(name)
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{self._described} is damaged: discard it with `discard=True`"
            ) from error
        if changed:
            name = changed[0]
            raise UsageError(
                f"{self.folder} was begun with another {name} ({begun.get(name)!r}, now "
                f"{settings.get(name)!r}): resume with the same, or discard it with `discard=True`"
            )

    def _clear(self) -> None:
        """Removes what is ours; a folder that holds anything else is not."""
        found = list(self.folder.iterdir())
        for path in found:
            if not _is_our_name(path):
                raise UsageError(
                    f"{self.folder} holds {path.name}, which is not ours: move it away"
                )
        for path in found:
            path.unlink()

    @property
    def is_begun(self) -> bool:
        """Whether there is anything that would be lost; not if somebody has removed the folder."""
        with suppress(FileNotFoundError):
            return any(path.suffix in _WORK for path in self.folder.iterdir())
        return False

    def close(self, is_finished: bool) -> None:
        """Leaves what is unfinished, if there is any."""
        try:
            with suppress(OSError, HnervError):  # nothing of that is worth an output
                if is_finished or not self.is_begun:
                    self._clear()
                    self.folder.rmdir()
        finally:
            os.close(self._held)


def _is_our_name(path: Path) -> bool:
    return path.suffix in (*_WORK, ".part") or path.name in _FACTS


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"number {number}"


def read_or_make(
    folder: Path | None, name: str, make: Callable[[], bytes], parse: Callable[[bytes], T]
) -> T:
    """What `parse` makes of what `make` gives, which is kept in the file `name` of the job folder
    and read from there if it was made before. Without a folder, or where this machine does not see
    it, nothing is kept. HnervError if the file holds something else than was written."""
    if folder is None or not folder.is_dir():
        return parse(make())
    path = folder / name
    if path.exists():
        return read(path, parse)
    data = make()
    with open_complete_or_absent(path) as file:
        file.write(data + crc32(data).to_bytes(4, "little"))
    path.with_suffix(".fit").unlink(missing_ok=True)
    return parse(data)


def read(path: Path, parse: Callable[[bytes], T]) -> T:
    """What `parse` makes of a file that `read_or_make` has written; HnervError if it is no longer
    that, or cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HnervError(f"cannot read {path}: {error.strerror}") from error
    try:
        if crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise ValueError("its checksum is wrong")
        return parse(data[:-4])
    except _WRONG_CONTENTS as error:
        raise HnervError(f"{path} is damaged: remove it, and it is made again") from error


@contextmanager
def opened(
    source: str, output: str | None, resume: bool, discard: bool, facts: dict[str, Any]
) -> Iterator[Path | None]:
    """The job folder of an encode, removed when the block is done; None where none is kept, as
    source and output both have to be files. facts: all that decides the output's bytes."""
    is_new = output is not None and output != "-" and not os.path.exists(output)
    to_file = is_new or (output is not None and os.path.isfile(output))
    if output is None or not to_file or not os.path.isfile(source):
        if resume:
            raise UsageError("`resume=True` works from a file to a file, not with pipes")
        yield None
        return
    job = JobFolder.open(
        output, finished_encodes.with_versions(facts), resume, discard and not resume
    )
    is_finished = False
    try:
        yield job.folder
        is_finished = True
    except KeyboardInterrupt as error:
        if not job.is_begun:
            raise
        raise type(error)("the same command with `resume=True` goes on from here") from None
    finally:
        job.close(is_finished)
    with suppress(OSError, OutputError):
        finished_encodes.remember(output, facts)
