"""Processes that fit segments: what ends one of them, and that they end with us."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from unittest import mock

import pytest

from hnervcodec.encoding import local_workers
from hnervcodec.encoding.encoder import Report
from hnervcodec.encoding.local_workers import LocalWorkers
from hnervcodec.encoding.remote import RemoteFit
from hnervcodec.errors import HnervError
from hnervcodec.fitting.progress import Phase, Progress


@dataclass(frozen=True)
class Fake:
    """Stands in for a RemoteFit: ends its process `deaths` times, or never comes to an end."""

    number: int
    folder: Path
    deaths: int

    @property
    def name(self) -> str:
        return f"segment {self.number + 1}"

    def fit(self, report: Report) -> bytes:
        (self.folder / f"{self.number}-{os.getpid()}").touch()
        report(self.number, Progress(Phase.DONE, 1, 1, 0.0, 30.0, None))
        if len(list(self.folder.glob(f"{self.number}-*"))) <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        while self.deaths < 0:
            time.sleep(1)
        return b"made"

    def parse(self, data: bytes) -> bytes:
        return data


def encode(workers: LocalWorkers, folder: Path, deaths: list[int], report: Report) -> list[int]:
    """The numbers of the segments that are completed."""
    fakes = [Fake(n, folder, count) for n, count in enumerate(deaths)]
    completed = workers.fitted(cast(list[RemoteFit[bytes]], fakes), report)
    return sorted(fake.number for fake, _ in completed)


def processes(folder: Path) -> list[Path]:
    """Those that fits were tried in and that have not ended."""
    found = (Path("/proc", path.name.split("-")[1]) for path in folder.iterdir())
    return [path for path in found if path.exists()]


@pytest.mark.slow
def test_what_ends_a_process_does_not_end_us(tmp_path: Path) -> None:
    heard: list[int] = []

    def hear(number: int, progress: Progress) -> None:
        heard.append(number)

    with mock.patch.object(local_workers, "ATTEMPTS", 2), LocalWorkers(1) as workers:
        assert encode(workers, tmp_path, [0, 1], hear) == [0, 1]
        assert heard == [0, 1, 1] and len(processes(tmp_path)) == 1
        with pytest.raises(HnervError, match="segment 1 ended 2 processes"):
            encode(workers, tmp_path, [99], hear)
    assert not processes(tmp_path)


@pytest.mark.slow
def test_they_end_when_we_are_interrupted(tmp_path: Path) -> None:
    def interrupt(number: int, progress: Progress) -> None:
        assert len(processes(tmp_path)) >= 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), LocalWorkers(2) as workers:
        encode(workers, tmp_path, [-1, -1], interrupt)
    assert not processes(tmp_path)
