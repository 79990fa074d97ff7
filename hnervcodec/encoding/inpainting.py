"""A video with what a mask covers replaced by what a network makes of the rest."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.decoding.decoder import Decoder
from hnervcodec.encoding.encoder import EncodeResult, with_masks
from hnervcodec.encoding.file_input import FileInput
from hnervcodec.encoding.observer import Observer
from hnervcodec.encoding.session import EncodeOptions, prepared
from hnervcodec.errors import UsageError
from hnervcodec.media.masks import restored
from hnervcodec.media.presentation import Presentation, whole
from hnervcodec.media.sinks import Sink

OpenSink = Callable[[VideoHeader, Presentation], AbstractContextManager[Sink]]


def inpaint(
    source: FileInput,
    options: EncodeOptions,
    open_sink: OpenSink,
    *,
    folder: Path | None,
    observer: Observer,
) -> EncodeResult:
    """Writes the source's frames to a sink, the masked samples as a network shows them that was
    fitted to all others; the samples that are not masked stay the source's.

    open_sink: given the header of the frames to come, with their count, and how they are to be
    shown. folder: the job folder, None if nothing is kept. Returns what the fit made.
    """
    if not source.can_be_reread:
        raise UsageError(f"{source.source} is read twice and cannot be a pipe")
    if source.mask is None:
        raise UsageError("`mask` is missing: what is to be replaced")
    with prepared(source, options, folder=folder, observer=observer) as session:
        assert session.scan is not None and session.side_data is not None  # as it can be reread
        to_come = replace(session.plan.video, frame_count=sum(session.scan.lengths))
        with (
            open_sink(to_come, whole(session.side_data)) as sink,
            tempfile.TemporaryFile() as temporary,
        ):
            for note in sink.notes:
                observer.noted(note)
            coded = cast(BinaryIO, temporary)
            result = session.write(coded, with_side_data=False)
            coded.seek(0)
            with source.open() as again, Decoder(coded) as decoder:
                all_decoded = decoder.frames(range(len(decoder)))
                originals = with_masks(again.frames(), source.masks(again.header))
                for (planes, hidden), (n, decoded) in zip(originals, all_decoded, strict=False):
                    assert hidden is not None  # as there is a mask
                    sink.write(n, restored(planes, decoded, hidden))
    return replace(result, notes=(*result.notes, *sink.notes))
