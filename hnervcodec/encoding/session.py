"""One encode: the only place that turns a source and options into a file.

    source -> scan -> side data -> settings -> plan -> segments -> file

`hnv encode`, `hnv inpaint`, `hnv compare` and `hnervcodec.encode` call it; what differs between
them is where the options come from and who hears of the progress (an `Observer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

from hnervcodec.bitstream.side_data import SideData
from hnervcodec.encoding import defaults, encoder, finished_encodes, job_folder
from hnervcodec.encoding.dispatch import Dispatch, encoded_segments
from hnervcodec.encoding.encoder import EncodeResult, Prediction
from hnervcodec.encoding.file_input import FileInput, Scan
from hnervcodec.encoding.memory_input import MemoryInput
from hnervcodec.encoding.observer import Observer
from hnervcodec.encoding.plan import Plan
from hnervcodec.encoding.rate import Rate
from hnervcodec.errors import OutputError, UsageError
from hnervcodec.fitting.presets import Preset
from hnervcodec.media.source import VideoSource
from hnervcodec.system import numbers
from hnervcodec.system.atomic_files import open_complete_or_absent
from hnervcodec.system.devices import resolve_device, using_threads

Source = FileInput | MemoryInput


TUNE_SSIM_LEAST = 11  # samples: the side of MS-SSIM's window


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """All that decides about a file, beside its source; see `hnervcodec.encode`."""

    rate: Rate
    preset: str | Preset = "medium"
    tune: str = "balanced"
    segment: int | None = None  # frames, about; None: what suits each scene
    scenecut: float = defaults.SCENECUT
    prune: float = 0.0
    seed: int = 0
    device: str = "auto"
    dispatch: Dispatch = field(default_factory=Dispatch)

    def __post_init__(self) -> None:
        numbers.convert(self, wholes=("segment", "seed"), reals=("scenecut", "prune"))
        if (self.segment is not None and self.segment < 1) or not 0 <= self.seed < 1 << 63:
            raise UsageError(f"`segment` {self.segment} or `seed` {self.seed} is out of range")

    def facts(self, source: Source) -> dict[str, Any]:
        """All that decides about the bytes of the file, in JSON's types: two encodes with the same
        facts make the same file."""
        share = self.dispatch.share
        plain = {name: value for name, value in asdict(self).items() if name not in _UNFOLDED}
        return {
            **plain,
            **asdict(self.rate),
            **source.facts(),
            "threads": self.dispatch.fit_threads,
            "share": share and list(share),
        }


_UNFOLDED = ("rate", "dispatch")  # of which `facts` holds what is in them


@dataclass(frozen=True)
class Session:
    """An encode that is about to begin: its source is open, scanned and planned.

    frames: the source, opened. folder: of unfinished work, if it is kept.
    scan, side_data: None where nobody can look ahead, as into a pipe.
    """

    source: Source
    frames: VideoSource | MemoryInput
    options: EncodeOptions
    plan: Plan
    scan: Scan | None
    side_data: SideData | None
    notes: tuple[str, ...]
    folder: Path | None
    observer: Observer

    def write(self, file: BinaryIO, *, with_side_data: bool = True) -> EncodeResult:
        """Fits the segments and writes the `.hnv` file, to a seekable file or a pipe."""
        dispatch, plan = self.options.dispatch, self.plan
        entries = self.scan.entries if self.scan else ()
        side_data = self.side_data if with_side_data else None
        with encoded_segments(
            plan,
            self.source,
            self.frames.frames(),
            dispatch,
            entries,
            self.folder,
            self.observer.progressed,
        ) as segments:
            made = encoder.write_file(plan, segments, file, side_data, dispatch.first_frame(plan))
        notes = tuple(dict.fromkeys([*self.frames.notes, *self.notes]))
        damage = self.scan.damage if self.scan else tuple(self.frames.damage.notes())
        return replace(made, notes=notes, damage=damage)

    def predict(self) -> Prediction:
        """What `write` would make and how long that would take, from about ten seconds' trial."""
        plan, dispatch = self.plan, self.options.dispatch
        first = dispatch.first_frame(plan)
        masks = self.source.masks(plan.video)
        return encoder.predict(
            plan.video,
            islice(self.frames.frames(), first, None),
            plan.settings,
            masks=masks and islice(masks, first, None),
            report=self.observer.progressed,
            parts=dispatch.parts(plan),
        )


@contextmanager
def prepared(
    source: Source, options: EncodeOptions, *, folder: Path | None, observer: Observer
) -> Iterator[Session]:
    """Opens and scans the source and plans its encode, which then only has to be run.

    folder: the job folder, None if nothing is kept. What cannot be had is refused here, before
    anything is fitted: UsageError, LimitError, SourceError.
    """
    dispatch = options.dispatch
    if (dispatch.is_elsewhere or dispatch.share) and not source.can_be_reread:
        raise UsageError(
            "`workers`, `cluster` and `share` need a file, as pipes and memory are read only once"
        )
    if not dispatch.is_elsewhere:
        resolve_device(options.device)
    with using_threads(dispatch.fit_threads), source.open() as frames:
        video = frames.header
        options.rate.check(video)
        if options.tune == "ssim" and min(video.width, video.height) < TUNE_SSIM_LEAST:
            raise UsageError(
                f"`tune` ssim compares windows of {TUNE_SSIM_LEAST}x{TUNE_SSIM_LEAST}, and these "
                f"frames are {video.width}x{video.height}"
            )
        observer.opened(video)
        scan = _scanned(source, options, folder, observer)
        side_data, lost = source.side_data(video, scan)
        settings = options.rate.settings(
            video,
            scan,
            side_data,
            preset=options.preset,
            tune=options.tune,
            segment_frames=options.segment or defaults.SEGMENT_FRAMES,
            prune=options.prune,
            device=options.device,
            seed=options.seed,
        )
        notes = [*lost, *source.check_masks(video, scan)]
        for note in dict.fromkeys([*frames.notes, *notes]):
            observer.noted(note)
        plan = Plan.of(video, settings)
        parts = dispatch.parts(plan)
        observer.planned({part.number: part.frame_count for part in parts}, len(plan.parts))
        yield Session(
            source, frames, options, plan, scan, side_data, tuple(notes), folder, observer
        )


def _scanned(
    source: Source, options: EncodeOptions, folder: Path | None, observer: Observer
) -> Scan | None:
    """What a look at all frames finds, or has found before, as the job folder tells."""

    def scan() -> bytes:
        found = source.scan(options.segment, options.scenecut, observer.scanned)
        return found.to_bytes() if found else b""

    def parse(data: bytes) -> Scan | None:
        return Scan.from_bytes(data) if data else None

    return job_folder.read_or_make(folder, "scan", scan, parse)


def encode(
    source: Source,
    output: str | Path | BinaryIO,
    options: EncodeOptions,
    *,
    resume: bool = False,
    discard: bool = False,
    observer: Observer | None = None,
    written: Callable[[EncodeResult, Path], None] = lambda result, path: None,
) -> EncodeResult:
    """Writes the `.hnv` file of `source` to `output`: a path, which appears when it is complete,
    or a binary file, seekable or not.

    resume: go on with an encode of a file to a file that was interrupted; discard: throw away what
    it left instead. With neither, unfinished work is refused with a UsageError.
    written: called with the path of the complete file before it gets its name.
    """
    observer = observer or Observer()
    if not isinstance(output, str | Path):
        if resume:
            raise UsageError("`resume=True` works from a file to a file")
        with prepared(source, options, folder=None, observer=observer) as session:
            return session.write(output)
    with (  # the work is kept until the output has its name
        open_job_folder(source, output, options, resume=resume, discard=discard) as folder,
        open_complete_or_absent(output, folder) as file,
        prepared(source, options, folder=folder, observer=observer) as session,
    ):
        result = session.write(file)
        file.flush()
        written(result, Path(file.name))
        return result


def predict(
    source: Source, options: EncodeOptions, *, observer: Observer | None = None
) -> Prediction:
    """What `encode` would make, and how long it would take on this machine."""
    made = prepared(source, options, folder=None, observer=observer or Observer())
    with made as session:
        return session.predict()


@contextmanager
def open_job_folder(
    source: Source,
    output: str | Path | None,
    options: EncodeOptions,
    *,
    resume: bool,
    discard: bool,
    kind: Literal["coded", "inpainted"] = "coded",
) -> Iterator[Path | None]:
    """The job folder of an encode to `output`, open for this process alone; None where no work is
    kept, as for a pipe. Refuses an output that cannot be written.

    output: None if there will be several files. kind: what the output will hold. resume, discard:
    as in `encode`.
    """
    name = source.source if isinstance(source, FileInput) else "-"
    if output is not None and output != "-":
        path = Path(output)
        if not path.absolute().parent.is_dir():
            raise OutputError(f"cannot write {output}: no such folder")
        if name != "-" and path.exists() and Path(name).exists() and path.samefile(name):
            raise UsageError(f"input and output are the same file, {output}")
    facts = options.facts(source) | ({"kind": kind} if kind != "coded" else {})
    with job_folder.opened(
        name, None if output is None else str(output), resume, discard, facts
    ) as folder:
        yield folder


def is_finished(source: Source, output: str | Path, options: EncodeOptions) -> bool:
    """Whether `output` is what such an encode made here, and neither has changed since."""
    return finished_encodes.is_finished(str(output), options.facts(source))
