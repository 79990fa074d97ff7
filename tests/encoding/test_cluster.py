"""Segments fitted elsewhere, by shares or by a real Dask cluster on this machine, make the file
that one process makes."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from running import Args, error_of, hnv

from hnervcodec.encoding.encoder import silent
from hnervcodec.encoding.file_input import FileInput
from hnervcodec.encoding.plan import Part, Settings
from hnervcodec.encoding.remote import RemoteRequest
from hnervcodec.errors import SourceError

OPTIONS = ("--bpp", "1.2", "--preset", "ultrafast", "--segment", "4", "--scenecut", "0",
           "--threads", "1")  # fmt: skip


@pytest.fixture(scope="module")
def alone(real_source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("alone") / "x.hnv"
    hnv("encode", real_source, "-o", output, *OPTIONS)
    return output.read_bytes()


@pytest.mark.slow
def test_shares_are_joined(real_source: Path, alone: bytes, tmp_path: Path) -> None:
    parts = [tmp_path / f"{n}.hnv" for n in (1, 2, 3)]
    for n, part in enumerate(parts, 1):
        run = hnv("encode", real_source, "-o", part, *OPTIONS, "--segments", f"{n}/3")
        assert f"segment {n}/4".encode() in run.stderr
    hnv("verify", parts[1])
    hnv("join", *parts, "-o", tmp_path / "whole.hnv")
    assert (tmp_path / "whole.hnv").read_bytes() == alone
    twice = tmp_path / "twice.hnv"
    hnv("join", parts[0], parts[0], "-o", twice)
    hnv("verify", twice)
    assert "same file" in error_of(hnv("join", *parts, "-o", parts[2], "-y", check=False), 2)


@pytest.mark.slow
def test_shares_that_are_none(real_source: Path, tmp_path: Path) -> None:
    for share, reason in (("1/1", ""), ("0/3", "2/4"), ("3/2", "2/4"), ("1", "2/4")):
        command = ("encode", real_source, "-o", tmp_path / "x.hnv", *OPTIONS, "--segments", share)
        run = hnv(*command, "--limit", "4", check=False)
        assert run.returncode == 0 if not reason else reason in error_of(run, 2)
    run = hnv(
        "encode",
        real_source,
        "-o",
        tmp_path / "y.hnv",
        *OPTIONS,
        "--segments",
        "1/9",
        "--limit",
        "4",
        "-q",
        check=False,
    )
    assert "only 1 segment" in error_of(run, 2)
    run = hnv("encode", "-", "-o", tmp_path / "y.hnv", *OPTIONS, "--workers", "2", check=False)
    assert "pipe" in error_of(run, 2)


def test_only_like_files_are_joined(real_file: Path, small_file: Path, tmp_path: Path) -> None:
    run = hnv("join", real_file, small_file, "-o", tmp_path / "x.hnv", check=False)
    assert "differ in size" in error_of(run, 2)
    damaged = tmp_path / "damaged.hnv"
    damaged.write_bytes(small_file.read_bytes()[:-200])
    inside = bytearray(small_file.read_bytes())
    inside[len(inside) // 3] ^= 1  # of a segment, which opening a file does not read
    (tmp_path / "inside.hnv").write_bytes(inside)
    for file in (damaged, tmp_path / "inside.hnv"):
        run = hnv("join", small_file, file, small_file, "-o", tmp_path / "x.hnv", check=False)
        said = error_of(run, 3)
        assert said.startswith(f"hnv: {file}: ") and said.count(".hnv") == 1
    assert not (tmp_path / "x.hnv").exists()


@pytest.mark.slow
def test_a_finished_encode_is_not_done_again(
    real_source: Path, alone: bytes, tmp_path: Path
) -> None:
    output, cache = tmp_path / "x.hnv", {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    hnv("encode", real_source, "-o", output, *OPTIONS, env=cache)
    made = output.stat()
    again = hnv("encode", real_source, "-o", output, *OPTIONS, env=cache)
    assert b"finished already" in again.stderr and output.stat() == made
    other = hnv(
        "encode", real_source, "-o", output, *OPTIONS, "--seed", "1", check=False, env=cache
    )
    assert "exists" in error_of(other, 2)
    output.write_bytes(alone + b"more")
    changed = hnv("encode", real_source, "-o", output, *OPTIONS, check=False, env=cache)
    assert "exists" in error_of(changed, 2)


@pytest.mark.slow
def test_another_mask_is_another_encode(real_source: Path, tmp_path: Path) -> None:
    output, mask = tmp_path / "x.hnv", tmp_path / "boxes.json"
    mask.write_text('[{"x": 0, "y": 0, "width": 5, "height": 5}]')
    command = ("encode", real_source, "-o", output, *OPTIONS, "--limit", "4")
    hnv(*command, "--mask", mask)
    assert b"finished already" in hnv(*command, "--mask", mask).stderr
    assert "exists" in error_of(hnv(*command, check=False), 2)


def test_another_copy_of_the_source(real_source: Path) -> None:
    file_input = FileInput(str(real_source))
    with file_input.open() as source:
        video = source.header
    settings = Settings(bytes_per_frame=500, lengths=(8, 30))
    request = RemoteRequest(video, settings, file_input, None, b"", 1, Part(1, 8, 30))
    with pytest.raises(SourceError, match="another video"):
        request.fit(silent)


@pytest.mark.slow
def test_workers(real_source: Path, alone: bytes, tmp_path: Path) -> None:
    run = hnv("encode", real_source, "-o", tmp_path / "x.hnv", *OPTIONS, "--workers", "2")
    assert (tmp_path / "x.hnv").read_bytes() == alone
    assert b"at work" in run.stderr and not list(tmp_path.glob("*.job"))


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Path]:
    """The file that says where a scheduler is."""
    with running_scheduler(tmp_path, "127.0.0.1") as file:
        yield file


@contextmanager
def running_scheduler(folder: Path, host: str) -> Iterator[Path]:
    file = folder / "scheduler.json"
    command = ["dask_scheduler", "--host", host, "--port", "0", "--no-dashboard"]
    run = dask(*command, "--scheduler-file", file)
    try:
        wait(file.exists, run)
        yield file
    finally:
        run.kill()
        run.wait()


def dask(program: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"distributed.cli.{program}", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def wait(condition, *running: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline and all(run.poll() is None for run in running)
        time.sleep(0.02)


@pytest.mark.slow
def test_a_worker_dies(real_source: Path, alone: bytes, scheduler: Path, tmp_path: Path) -> None:
    from distributed import Client

    output = tmp_path / "x.hnv"
    workers = [
        dask(
            "dask_worker",
            "--scheduler-file",
            scheduler,
            "--no-nanny",
            "--nthreads",
            "1",
            "--no-dashboard",
            "--name",
            name,
        )
        for name in "abc"
    ]
    address = json.loads(scheduler.read_text())["address"]
    wait(lambda: count_workers(address) == 3, *workers)
    command: Args = [sys.executable, "-m", "hnervcodec", "encode", real_source, "-o", output]
    run = subprocess.Popen([*command, *OPTIONS, "--cluster", address], stderr=subprocess.PIPE)
    try:
        assert run.stderr is not None
        while b"at work" not in run.stderr.readline():
            assert run.poll() is None
        busy = list[str]()
        with Client(address) as client:

            def is_any_at_work() -> bool:
                busy.extend(at_work(client))
                return bool(busy)

            wait(is_any_at_work, run, *workers)
        workers["abc".index(busy[0])].kill()
        _, said = run.communicate(timeout=180)
        assert run.returncode == 0, said.decode()
        assert output.read_bytes() == alone
    finally:
        for process in (run, *workers):
            process.kill()
            process.wait()


def count_workers(address: str) -> int:
    from distributed import Client

    with Client(address) as client:
        return len(client.scheduler_info()["workers"])


def at_work(client: Any) -> list[str]:
    """Names of the workers that have something to do."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return [workers[at]["name"] for at, tasks in client.processing().items() if tasks]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_tls_as_help_tells_it(
    real_source: Path, alone: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = hnv("help", "machines").stdout.decode()
    lines = told[told.index("  openssl") : told.index("  dask scheduler --host tls://")]
    settings = subprocess.run(
        ["bash", "-ec", f"{lines}\nenv"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    for name, _, value in (line.partition("=") for line in settings.stdout.splitlines()):
        if name.startswith("DASK_"):
            is_file = value.endswith(".pem")
            monkeypatch.setenv(name, str(tmp_path / value) if is_file else value)
    output = tmp_path / "x.hnv"
    command = ("encode", real_source, "-o", output, *OPTIONS, "-q", "--cluster")
    with running_scheduler(tmp_path, "tls://127.0.0.1") as file:
        address = json.loads(file.read_text())["address"]
        assert address.startswith("tls://")
        worker = dask(
            "dask_worker", "--scheduler-file", file, "--no-nanny", "--nthreads", "1",
            "--no-dashboard",
        )  # fmt: skip
        try:
            # The first tries may find no workers yet.
            wait(lambda: hnv(*command, address, check=False).returncode == 0, worker)
            assert output.read_bytes() == alone
            in_the_clear = hnv(*command, address.replace("tls", "tcp"), "-y", check=False)
            assert "encryption required" in error_of(in_the_clear, 2)
            for name in [name for name in os.environ if name.startswith("DASK_")]:
                monkeypatch.delenv(name)
            stranger = hnv(*command, address, "-y", check=False)
            assert "check your TLS configuration" in error_of(stranger, 2)
        finally:
            worker.kill()
            worker.wait()


@pytest.mark.slow
def test_no_scheduler(real_source: Path, tmp_path: Path) -> None:
    command = ("encode", real_source, "-o", tmp_path / "x.hnv", *OPTIONS, "-q")
    run = hnv(*command, "--cluster", "tcp://127.0.0.1:9", check=False)
    assert "no Dask scheduler" in error_of(run, 2)
