"""Files of decoded frames, in every output format; each is complete or absent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.errors import UsageError
from hnervcodec.media import output_codecs, sinks
from hnervcodec.media.format_limits import loss_notes
from hnervcodec.media.muxer_sink import MuxerSink
from hnervcodec.media.output_formats import CONTAINERS, STREAMED
from hnervcodec.media.presentation import Presentation
from hnervcodec.system.atomic_files import complete_or_absent, open_complete_or_absent


@contextmanager
def open_file_sink(
    path: str, name: str, header: VideoHeader, shown: Presentation, words: Sequence[str] = ()
) -> Iterator[sinks.Sink]:
    """A sink that writes the header's `frame_count` frames to `path`; it is closed at the end of
    the block, and the file appears then (PNGs: each when it is written).

    name: the format's, as `output_formats.format_of` tells it from a file's name. shown: what goes
    with the frames, for formats that hold it. words: options of the format's encoder as ffmpeg
    takes them, such as `["-crf", "18"]`. UsageError or OutputError, before any frame is written:
    what the format cannot hold.
    """
    if words and name not in CONTAINERS:
        raise UsageError(f"{name} takes no encoder options such as {words[0]}")
    if name in STREAMED:
        with (
            open_complete_or_absent(path) as file,
            open_stream_sink(file, name, header, shown) as stream,
        ):
            yield stream
    elif name == "png":
        with sinks.PngSink(path, header) as png:
            png.notes = loss_notes(name, header, shown)
            yield png
    else:
        encoding = output_codecs.choose(name, header, words)
        with (
            complete_or_absent(path) as partial,
            MuxerSink(partial, header, encoding, shown) as muxer,
        ):
            muxer.notes = [*loss_notes(name, header, shown), *muxer.notes]
            yield muxer


def open_stream_sink(
    file: BinaryIO, name: str, header: VideoHeader, shown: Presentation
) -> sinks.Sink:
    """A sink that writes the header's `frame_count` frames to an open file, which may be a pipe.

    name: one of `output_formats.STREAMED`. shown: what goes with the frames, most of which these
    formats do not hold.
    """
    sink: sinks.Sink
    if name == "y4m":
        sink = sinks.Y4mSink(file, header)
    elif name == "npy":
        sink = sinks.NpySink(file, header)
    else:
        sink = sinks.RawSink(file) if name == "raw" else sinks.FrameMd5Sink(file)
    sink.notes = loss_notes(name, header, shown)
    return sink
