"""What --dry-run says, and what it does to say it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hnervcodec.encoding import encoder, session
from hnervcodec.encoding.file_input import FileInput
from hnervcodec.encoding.rate import Rate
from hnervcodec.encoding.segment_encoder import SegmentRequest
from hnervcodec.encoding.session import EncodeOptions
from hnervcodec.fitting.training import FitTask


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[FitTask]:
    """All that are made from now on; a step or two tells how long each takes."""
    made: list[FitTask] = []
    fit_task = SegmentRequest.fit_task

    def noted(*given: object, **named: object) -> FitTask:
        made.append(fit_task(*given, **named))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(SegmentRequest, "fit_task", noted)
    monkeypatch.setattr(encoder, "CALIBRATION", 0.0)
    monkeypatch.setattr(encoder, "FIRST_LOOK", 0.0)
    return made


def predict(source: Path, rate: Rate) -> encoder.Prediction:
    options = EncodeOptions(rate=rate, preset="ultrafast", segment=40)
    return session.predict(FileInput(str(source)), options)


def test_few_frames_are_fitted(real_source: Path, tasks: list[FitTask]) -> None:
    prediction = predict(real_source, Rate(bpp=0.4))
    assert [len(task.frames) for task in tasks] == [encoder.PREDICTED_FRAMES]
    # What the fit turns it into is the same memory.
    assert tasks[0].frames.transpose(0, 2, 3, 1).flags.c_contiguous
    assert prediction.frames > encoder.PREDICTED_FRAMES and prediction.bytes


@pytest.mark.parametrize("seconds, is_known", [(0.0, False), (np.inf, True)])
def test_a_quality_is_tried_where_that_is_quick(
    seconds: float,
    is_known: bool,
    real_source: Path,
    tasks: list[FitTask],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoder, "SHORT_TRIAL", seconds)
    prediction = predict(real_source, Rate(quality=25))
    assert (prediction.bytes is not None, len(tasks) > 1) == (is_known, is_known)
    assert prediction.seconds > 0
