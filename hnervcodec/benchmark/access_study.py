"""One clip's files for random access, made, measured and timed; nothing is done twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from hnervcodec._version import __version__
from hnervcodec.benchmark import access_files, access_report, access_times, csv_rows, other_codecs
from hnervcodec.benchmark.access_files import HNV, PICTURES, AccessFile
from hnervcodec.benchmark.access_times import AccessTime
from hnervcodec.benchmark.study import digest
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.encoding.observer import Observer
from hnervcodec.errors import UsageError
from hnervcodec.planes import Planes
from hnervcodec.system.atomic_files import open_complete_or_absent

FILES, TIMES = "access_files.csv", "access_times.csv"

Row = TypeVar("Row", AccessFile, AccessTime)
Case = tuple[str, str, int, str]  # codec, preset, group length, rate


class AccessStudy:
    """Files of `clip` in `folder`, beside the tables of what was found. say: is told each step."""

    def __init__(
        self,
        clip: str,
        header: VideoHeader,
        frames: list[Planes],
        folder: Path,
        say: access_files.Said,
    ):
        self.clip, self.folder = clip, folder
        self._header, self._frames, self._say = header, frames, say
        self.source = digest(header, frames)
        self._files = _load(folder / FILES, AccessFile)
        self._times = _load(folder / TIMES, AccessTime)

    @property
    def files(self) -> list[AccessFile]:
        """Of this clip."""
        return [file for file in self._files if file.source == self.source]

    @property
    def times(self) -> list[AccessTime]:
        """Of this clip's files."""
        return [time for time in self._times if time.source == self.source]

    def path_of(self, case: Case) -> Path:
        """Where a case's file is or will be."""
        return self.folder / access_files.name_of(self.clip, *case)

    def code(self, cases: Sequence[Case], observer: Observer) -> None:
        """Makes and measures the files that are missing. observer: hears of our own encodes."""
        known = {(f.codec, f.preset, f.gop, f.rate, f.version): f for f in self.files}
        for number, case in enumerate(cases, 1):
            codec, preset, gop, rate = case
            version = f"hnv {__version__}" if codec == HNV else other_codecs.versions()
            path = self.path_of(case)
            if (*case, version) in known and path.exists():
                continue
            words = f"{codec} {preset}".strip() + (f" g={gop}" if gop else "") + f" {rate}"
            self._say(f"{self.clip} {number}/{len(cases)}: {words}")
            given = self._header, self._frames
            if codec == HNV:
                coded = access_files.code_hnv(path, preset, rate, *given, observer)
            elif codec in PICTURES:
                coded = access_files.code_pictures(path, codec, rate, *given)
            else:
                coded = access_files.code_other(path, *case, *given)
            name = (*case, version)
            made = access_files.measured(self.source, name, path, *given, coded)
            self._files = [file for file in self._files if _key(file) != _key(made)] + [made]
            _save(self.folder / FILES, self._files)

    def time(self, wanted: Iterable[AccessFile]) -> None:
        """Times random access of files, those that were not timed before."""
        missing = {file.path: file for file in wanted}
        for time in self.times:
            missing.pop(time.path, None)
        for number, file in enumerate(missing.values(), 1):
            self._say(f"{self.clip} {number}/{len(missing)}: times of {file.path}")
            path = self.folder / file.path
            self._times.append(access_times.measure(self.source, path, file.frames))
            _save(self.folder / TIMES, self._times)

    def nearest_files(self) -> list[AccessFile]:
        """What is worth timing: of ours every file, of others those nearest to one of ours."""
        files = self.files
        found = [file for file in files if file.codec == HNV]
        for target in access_report.targets(files):
            found += [
                access_report.nearest(line, target.psnr_611)
                for way, line in access_report.ways_of(files).items()
                if way.codec != HNV
            ]
        return found


def _key(file: AccessFile) -> tuple[str, ...]:
    return file.source, file.codec, file.preset, str(file.gop), file.rate


def _load(path: Path, kind: type[Row]) -> list[Row]:
    try:
        return csv_rows.load(path, kind)
    except ValueError as error:
        raise UsageError(f"{error}: move it away, or choose another folder") from error


def _save(path: Path, rows: Sequence[AccessFile] | Sequence[AccessTime]) -> None:
    with open_complete_or_absent(path) as file:
        file.write(csv_rows.to_csv(map(asdict, rows)).encode())
