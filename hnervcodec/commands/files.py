"""Opens what commands read and write, and refuses what cannot be written before any work."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from hnervcodec.bitstream.container import SIGNATURE
from hnervcodec.bitstream.reader import Reader
from hnervcodec.errors import (
    FileError,
    LimitError,
    OutputError,
    SourceError,
    UnsupportedError,
    UsageError,
)
from hnervcodec.media.output_formats import STREAMED, png_name

if TYPE_CHECKING:
    from hnervcodec.bitstream.headers import VideoHeader
    from hnervcodec.decoding.decoder import Decoder
    from hnervcodec.media.presentation import Presentation
    from hnervcodec.media.sinks import Sink
    from hnervcodec.planes import Planes


@contextmanager
def open_file(source: str) -> Iterator[BinaryIO]:
    """Opens a `.hnv` file for reading, seekable: pipes and standard input (-) are read whole.
    SourceError if it cannot be opened."""
    if source == "-":
        yield io.BytesIO(sys.stdin.buffer.read())
        return
    try:
        file: BinaryIO = open(source, "rb")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise SourceError(f"cannot open {source}: {error.strerror}") from error
    with file:
        yield file if file.seekable() else io.BytesIO(file.read())


@contextmanager
def naming_file(source: str) -> Iterator[None]:
    """Puts the name of the `.hnv` file before the errors raised within the block, which must read
    no other file."""
    try:
        yield
    except (FileError, UnsupportedError, LimitError) as error:
        name = "standard input" if source == "-" else source
        error.args = (f"{name}: {error}",)
        raise


@contextmanager
def open_decoder(
    source: str,
    recover: bool,
    max_level: int | None,
    arithmetic: str,
    device: str,
    threads: int | None,
) -> Iterator[Decoder]:
    """A decoder of the file `source` names, closed at the end of the `with`; `recover`: what is
    intact of a damaged one."""
    with open_file(source) as file:
        reader = Reader(
            file, recover=recover, max_level=max_level
        )  # a wrong file fails before torch is loaded
        from hnervcodec.decoding.decoder import Decoder

        yield Decoder(reader, path=arithmetic, device=device, threads=threads)


def is_hnv_file(source: str) -> bool:
    """Whether `source` is a `.hnv` file, by its first bytes, not by its name."""
    if not os.path.isfile(source):
        return False
    with open(source, "rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


@contextmanager
def open_video(source: str) -> Iterator[tuple[VideoHeader, Iterator[Planes]]]:
    """Header and frames of a .hnv file or of anything that libav opens."""
    if is_hnv_file(source):
        with ExitStack() as stack:
            with naming_file(source):
                opened = open_decoder(source, False, None, "auto", "cpu", None)
                decoder = stack.enter_context(opened)
            yield decoder.video, _frames(source, decoder)
    else:
        from hnervcodec.media.source import VideoSource

        with VideoSource(source) as video:
            yield video.header, video.frames()
            for line in video.damage.notes():
                click.echo(f"note: {source}: {line}", err=True)


def _frames(source: str, decoder: Decoder) -> Iterator[Planes]:
    with naming_file(source):
        for _, planes in decoder.frames(range(len(decoder))):
            yield planes


def check_overwrite(source: str, output: str, yes: bool, no: bool) -> None:
    """Asks whether an existing output may go, unless `yes` or `no` says so; UsageError if not."""
    if output == "-" or not os.path.exists(output):
        return
    if source != "-" and os.path.exists(source) and os.path.samefile(source, output):
        raise UsageError(f"input and output are the same file, {output}")
    if not os.path.isfile(output) or yes:
        return
    if no or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{output} exists: use -y to overwrite it")
    if not click.confirm(f"{output} exists. Overwrite?", err=True):
        raise UsageError(f"{output} was left as it is")


class _Pipe(io.RawIOBase):
    """Standard output without seeking, even where it is a file that holds something already."""

    def __init__(self, file: BinaryIO):
        self._target = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._target.write(data)

    def flush(self) -> None:
        self._target.flush()


@contextmanager
def open_output(output: str) -> Iterator[BinaryIO]:
    """A .hnv file to be written: complete or absent, or standard output for -."""
    if output == "-":
        yield standard_output()
        return
    from hnervcodec.system.atomic_files import open_complete_or_absent

    if not Path(output).absolute().parent.is_dir():
        raise OutputError(f"cannot write {output}: no such folder")
    with open_complete_or_absent(output) as file:
        yield file


def standard_output() -> BinaryIO:
    """Standard output for a .hnv file; UsageError if it is a terminal."""
    if sys.stdout.isatty():
        raise UsageError("a .hnv file is not written to a terminal: use -o FILE")
    return cast(BinaryIO, _Pipe(sys.stdout.buffer))


def check_files(
    source: str, output: str, name: str, numbers: Sequence[int], yes: bool, no: bool
) -> None:
    """Refuses an output before anything is computed: a missing folder, a file that exists and is
    not to be overwritten, several frames for one picture.

    name: of the format. numbers: of the frames to be written, which may be in their files' names.
    """
    if output == "-":
        return
    if name == "png" and "%" not in output and len(numbers) > 1:
        raise UsageError(
            f"{len(numbers)} frames do not fit into one PNG: write a pattern like %05d.png"
        )
    names = [png_name(output, n) for n in numbers] if name == "png" else [output]
    if not Path(names[0]).absolute().parent.is_dir():
        raise OutputError(f"cannot write {names[0]}: no such folder")
    existing = [file for file in names if os.path.exists(file)]
    if existing:
        check_overwrite(source, existing[0], yes, no)


@contextmanager
def open_sink(
    output: str, name: str, header: VideoHeader, shown: Presentation, words: Sequence[str] = ()
) -> Iterator[Sink]:
    """A sink for the header's `frame_count` frames. `shown`: what goes with the frames, for those
    formats that hold it; `words`: options of an encoder."""
    from hnervcodec.media.outputs import open_file_sink, open_stream_sink

    if output != "-":
        with open_file_sink(output, name, header, shown, words) as sink:
            yield sink
        return
    if name not in STREAMED:
        raise UsageError(f"{name} cannot be written to a pipe: use {', '.join(STREAMED)}")
    if words:
        raise UsageError(f"{name} takes no encoder options such as {words[0]}")
    if name != "framemd5" and sys.stdout.isatty():
        raise UsageError("video is not written to a terminal: use -o FILE, or pipe it on")
    with open_stream_sink(sys.stdout.buffer, name, header, shown) as sink:
        yield sink
