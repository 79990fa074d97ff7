"""tools/gpu with the processor as its GPU: whether it runs, goes on, and keeps results."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from pathlib import Path

import gpu
import pytest
import torch


@pytest.fixture
def run(tmp_path: Path) -> gpu.Run:
    return gpu.Run(torch.device("cpu"), tmp_path, inf, tiny=True)


def test_the_papers_fit_goes_on(run: gpu.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = gpu.paper(run, 4_000, 2)["PSNR"]
    checks = iter([False, True])

    def check(_: gpu.Run) -> None:
        if next(checks):
            raise gpu.OutOfTime

    with monkeypatch.context() as patch, pytest.raises(gpu.OutOfTime):
        patch.setattr(gpu.Run, "check", check)
        gpu.paper(run, 4_000, 2)
    assert [path.suffix for path in run.work.iterdir()] == [".pt"]
    assert gpu.paper(run, 4_000, 2)["PSNR"] == undisturbed and not list(run.work.iterdir())


def test_an_encode_ends_with_its_time(run: gpu.Run) -> None:
    with pytest.raises(gpu.OutOfTime):
        gpu.ours(replace(run, deadline=0.0), 4_000, "ultrafast")
    assert {path.suffix for path in run.work.iterdir()} <= {".y4m", ".seconds", ".job"}


def test_results_accumulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = gpu.jobs

    def some(run: gpu.Run) -> Iterator[tuple[str, str, Callable[[], gpu.Facts]]]:
        return (job for job in everything(run) if job[0] in ("exact", "decode", "fit"))

    def main(minutes: float) -> int:
        words = ["--device", "cpu", "--tiny", "--minutes", str(minutes)]
        words += ["--work", str(tmp_path / "work"), "--results", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["tools/gpu", *words])
        return gpu.main()

    monkeypatch.setattr(gpu, "jobs", some)
    kept = tmp_path / "results.json"
    kept.write_text(json.dumps({"another": {"fit": {"kind": "fit", "float, cuda": 0.001}}}))
    assert main(0) == gpu.UNFINISHED
    assert main(9) == 0
    results = json.loads(kept.read_text())
    assert list(results) == ["another", gpu.Run(torch.device("cpu"), tmp_path, inf, True).machine]
    done = results.popitem()[1]
    assert list(done) == ["exact", "decode", "fit"] and done["exact"]["frames"] > 0
    before = (tmp_path / "README.md").read_text()
    assert "| float, cuda | 0.001 |" in before and "| frames of a batch | 2 |" in before
    assert main(9) == 0 and (tmp_path / "README.md").read_text() == before


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["tools/gpu", "--work", str(tmp_path / "none")])
    assert gpu.main() == 1 and not (tmp_path / "none").exists()
