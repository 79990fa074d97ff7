"""Encodes of many videos into one folder, with a manifest of what is there.

    out/
        a.hnv, sub/b.hnv    a video each, named as its source
        manifest.jsonl      a line of JSON for each of them, whenever one is finished

A video that cannot be encoded does not stop the others. What the manifest knows as finished, of a
source and options that have not changed, is not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hnervcodec.encoding import dispatch, finished_encodes, job_folder, session
from hnervcodec.encoding.encoder import EncodeResult, Prediction
from hnervcodec.encoding.file_input import FileInput, Selection
from hnervcodec.encoding.job_folder import JobFolder
from hnervcodec.encoding.local_workers import LocalWorkers
from hnervcodec.encoding.manifest import EncodedVideo, Manifest, Record, sha256_of
from hnervcodec.encoding.observer import ManyObserver, Observer
from hnervcodec.encoding.remote import REPORT_INTERVAL
from hnervcodec.encoding.session import EncodeOptions
from hnervcodec.encoding.video_files import find, output_names
from hnervcodec.errors import HnervError, OutputError, SourceError, UsageError
from hnervcodec.fitting.progress import Progress
from hnervcodec.media.demuxing import open_source
from hnervcodec.system.devices import resolve_device
from hnervcodec.system.isolated import tell

ON_CLUSTER = 8  # videos at a time, each read by a process here and fitted there


@dataclass(frozen=True)
class _Video:
    """One to be encoded. name, source_name: as in `Record`."""

    number: int
    path: str
    name: str
    source_name: str
    output: Path
    file_input: FileInput | None = None  # once it is known what to take of it
    made_from: str = ""
    failure: str = ""

    def became(self, **facts: Any) -> EncodedVideo:
        return EncodedVideo(self.path, str(self.output), **facts)


def _digest(facts: dict[str, Any]) -> str:
    """Of equal facts the same 16 digits, as 2 and 2.0 are equal."""

    def number(text: str) -> int | float:
        value = float(text)
        return int(value) if value.is_integer() else value

    plain = json.loads(json.dumps(facts), parse_float=number)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _is_finished(video: _Video, record: Record | None) -> bool:
    """Whether its file is what the manifest says, made of the same."""
    if record is None or record.made_from != video.made_from:
        return False
    if not video.output.is_file():
        return False
    return video.output.stat().st_size == record.bytes and sha256_of(video.output) == record.sha256


class ManyEncode:
    """An encode of many videos that is about to begin: it is known which, and where to.

    sources: files, folders, and patterns such as clips/*.mp4. folder: of the outputs; it is made if
    it is missing, and lower folders as the sources lie in them.
    SourceError if there are no videos, OutputError for a folder that cannot be one.
    """

    def __init__(
        self,
        sources: Sequence[str],
        folder: str | Path,
        options: EncodeOptions,
        selection: Selection | None = None,
        observer: ManyObserver | None = None,
    ):
        if options.dispatch.share:
            raise UsageError("`share` is of one video's segments, not for many videos")
        self._folder, self._options = Path(folder), options
        self._selection, self._observer = selection or Selection(), observer or ManyObserver()
        if self._folder.exists() and not self._folder.is_dir():
            raise OutputError(f"{folder} is a file, and many videos need a folder")
        root, paths = find(sources, self._folder)
        self._manifest = Manifest(self._folder)
        self._known = self._manifest.read()
        names = [os.path.relpath(path, root) for path in paths]
        self._videos = [
            self._described(_Video(number, path, name, source, self._folder / name))
            for number, (path, source, name) in enumerate(
                zip(paths, names, output_names(names), strict=True)
            )
        ]

    def __len__(self) -> int:
        """How many videos there are."""
        return len(self._videos)

    def _described(self, video: _Video) -> _Video:
        """With what to take of it, or why nothing can be taken."""
        try:
            if not os.path.isfile(video.path):
                raise SourceError("no such file" if not os.path.exists(video.path) else "no file")
            file_input = self._selection.of(video.path)
            facts = finished_encodes.with_versions(self._options.facts(file_input))
        except (HnervError, OSError) as error:
            return replace(video, failure=_words(video, error))
        return replace(video, file_input=file_input, made_from=_digest(facts))

    def existing(self) -> list[str]:
        """Outputs that are there already, and are not what this would make."""
        return [
            str(video.output)
            for video in self._videos
            if video.output.exists() and not self._is_ours(video)
        ]

    def _is_ours(self, video: _Video) -> bool:
        record = self._known.get(video.name)
        return _is_finished(video, record) or _is_begun(video)

    def run(self, *, resume: bool = False, discard: bool = False) -> list[EncodedVideo]:
        """Encodes the videos, and returns what became of each.

        resume: go on with what was interrupted; discard: make all of them anew, or with `resume`
        only what is not finished. With neither, unfinished work and outputs that are something else
        are refused with a UsageError.
        """
        if not discard:
            self._refuse(resume)
        is_anew = discard and not resume
        results = dict(self._already(is_anew))
        waiting = [video for video in self._videos if video.number not in results]
        work = {}
        for count, video in enumerate(waiting, 1):
            try:
                work[video.number] = _work(video)
            except (HnervError, OSError) as error:
                results[video.number] = self._failed(video, error)
            self._observer.looked_at(count, len(waiting))
        self._observer.planned(work, len(self._videos))
        videos = [video for video in waiting if video.number in work]
        if videos:
            self._make_folder()
        try:
            for done, made in self._encoded(videos, is_anew) if videos else ():
                results[done.number] = made
                self._observer.finished(done.number, made)
        except KeyboardInterrupt as error:
            raise type(error)("the same command with `resume=True` goes on from here") from None
        if self._folder.is_dir():
            self._manifest.tidy()
        return [results[video.number] for video in self._videos]

    def predict(self) -> tuple[Prediction, float]:
        """What the first video that can be opened would become, and about how many seconds all
        would take, by their sizes. SourceError if there is none."""
        work = {}
        for video in self._videos:
            if not video.failure:
                with suppress(HnervError, OSError):
                    work[video.number] = _work(video)
        for number in work:
            file_input = self._videos[number].file_input
            assert file_input is not None
            first = session.predict(file_input, self._options)
            return first, first.seconds * sum(work.values()) / work[number]
        raise SourceError("none of these videos can be read")

    def _refuse(self, resume: bool) -> None:
        """What would be lost, before any work."""
        if existing := self.existing():
            more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
            raise UsageError(f"{existing[0]}{more} exists: overwrite it with `discard=True`")
        begun = [video for video in self._videos if _is_begun(video)]
        if begun and not resume:
            raise UsageError(
                f"{job_folder.folder_of(begun[0].output)} holds an unfinished encode: go on with "
                "`resume=True`, or discard it with `discard=True`"
            )

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make {self._folder}: {error.strerror}") from error

    def _already(self, is_anew: bool) -> Iterator[tuple[int, EncodedVideo]]:
        """What has failed or is finished before anything is done."""
        for video in self._videos:
            record = self._known.get(video.name)
            if video.failure:
                made = video.became(error=video.failure)
            elif not is_anew and _is_finished(video, record):
                made = video.became(record=record, was_finished=True)
                _remove_rest(video)
            else:
                continue
            self._observer.finished(video.number, made)
            yield video.number, made

    def _failed(self, video: _Video, error: Exception) -> EncodedVideo:
        made = video.became(error=_words(video, error))
        self._observer.finished(video.number, made)
        return made

    def _encoded(
        self, videos: Sequence[_Video], discard: bool
    ) -> Iterator[tuple[_Video, EncodedVideo]]:
        """What becomes of each video, when it is known. One at a time here, or each as a whole in a
        process of its own, as its fit is the same there."""
        asked = self._options.dispatch
        if not asked.is_elsewhere:
            resolve_device(self._options.device)
            for video in videos:
                hear = partial(self._observer.progressed, video.number)
                yield video, _encode(video, self._folder, self._options, discard, hear)
            return
        if asked.cluster:
            dispatch.check_cluster(asked.cluster)
            at_once = min(ON_CLUSTER, len(videos))
            inner = replace(asked, threads=asked.fit_threads)
        else:
            assert asked.workers
            at_once = min(asked.workers, len(videos))
            # Fewer videos than processes: they fit several of its segments at a time.
            each = asked.workers // at_once
            inner = replace(asked, workers=each if each > 1 else None, threads=asked.fit_threads)
        options = replace(self._options, dispatch=inner)
        with LocalWorkers(at_once) as workers:
            futures = {}
            for video in videos:
                call = partial(_encode_there, video, self._folder, options, discard)
                hear = partial(self._observer.progressed, video.number)
                futures[workers.submit(video.path, call, hear)] = video
            for future in as_completed(futures):
                video = futures[future]
                try:
                    made = future.result()
                except HnervError as error:  # it ended its processes
                    made = video.became(error=_words(video, error))
                yield video, made


def _is_begun(video: _Video) -> bool:
    """Whether there is work on it that would be lost."""
    return JobFolder(job_folder.folder_of(video.output)).is_begun


def _remove_rest(video: _Video) -> None:
    """Of what was killed when its file had its name already."""
    if job_folder.folder_of(video.output).exists():
        with suppress(HnervError):
            JobFolder.open(video.output, {}, resume=False, discard=True).close(is_finished=True)


def _work(video: _Video) -> float:
    """About how many samples have to be fitted. SourceError if it is no video."""
    assert video.file_input is not None
    with video.file_input.open() as source:
        header = source.header
    wanted, frames = video.file_input, 1.0
    with suppress(HnervError), open_source(video.path) as container:
        stream = container.streams.best("video")
        seconds = (container.duration or 0) / 1_000_000
        frames = float(getattr(stream, "frames", 0) or seconds * header.frame_rate)
    frames = max((frames - wanted.skip) / wanted.every, 1)
    return header.width * header.height * min(frames, wanted.limit or frames)


class _Shares(Observer):
    """Passes on which share of a whole video's fits is behind us, once a second."""

    def __init__(self, hear: Callable[[float], None]):
        self._hear, self._last = hear, 0.0
        self._lengths: dict[int, int] = {}
        self._done: dict[int, float] = {}

    def planned(self, lengths: dict[int, int], segments: int) -> None:
        self._lengths = lengths

    def scanned(self, frames: int) -> None:
        self._say()

    def progressed(self, number: int, progress: Progress) -> None:
        if not progress.phase.is_before_the_fit:
            self._done[number] = progress.step / progress.steps
        self._say()

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._last < REPORT_INTERVAL:
            return
        self._last = now
        done = sum(self._lengths.get(n, 0) * share for n, share in self._done.items())
        self._hear(done / max(sum(self._lengths.values()), 1))


def _encode(
    video: _Video,
    folder: Path,
    options: EncodeOptions,
    discard: bool,
    hear: Callable[[float], None],
) -> EncodedVideo:
    """Encodes one video. Its line is in the manifest before its file has its name, so that whatever
    ends us between the two leaves the job folder."""
    assert video.file_input is not None
    record: Record | None = None

    def written(result: EncodeResult, path: Path) -> None:
        nonlocal record
        record = Record(
            name=video.name,
            source=video.source_name,
            frames=result.frames,
            bytes=result.bytes,
            psnr=round(result.error.average, 4),
            sha256=sha256_of(path),
            made_from=video.made_from,
        )
        Manifest(folder).add(record)

    try:
        video.output.parent.mkdir(parents=True, exist_ok=True)
        result = session.encode(
            video.file_input,
            video.output,
            options,
            resume=not discard,
            discard=discard,
            observer=_Shares(hear),
            written=written,
        )
    except Exception as error:  # whatever it is, it is this video's
        return video.became(error=_words(video, error))
    return video.became(record=record, notes=(*result.notes, *result.damage))


def _encode_there(
    video: _Video, folder: Path, options: EncodeOptions, discard: bool
) -> EncodedVideo:
    """In a worker."""
    return _encode(video, folder, options, discard, tell)


def _words(video: _Video, error: Exception) -> str:
    """One line about what went wrong, which names the video."""
    if isinstance(error, HnervError):
        said = str(error)
    elif isinstance(error, OSError):
        said = error.strerror or str(error)
    else:
        said = f"{type(error).__name__}: {error}"
    said = " ".join(said.split())
    return said if video.path in said or video.name in said else f"{video.path}: {said}"
