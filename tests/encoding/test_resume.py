"""Whatever stops an encode, the same command with --resume ends in the same file."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from running import Args, error_of, heed_interrupts, hnv

from hnervcodec.encoding import job_folder
from hnervcodec.encoding.job_folder import JobFolder
from hnervcodec.errors import HnervError, UsageError
from hnervcodec.fitting import fit_state

# Keeps the fit after every step, so that a short one has something to lose.
OFTEN = (
    "from hnervcodec import cli; from hnervcodec.fitting import fit_state; "
    "fit_state.INTERVAL = {}; cli.main()"
)
OPTIONS = ("--bpp", "0.9", "--preset", "ultrafast", "--segment", "8", "--threads", "1")


def start(source: Path, output: Path, *more: str, interval: float = 0) -> subprocess.Popen[bytes]:
    command: Args = [sys.executable, "-c", OFTEN.format(interval), "encode", source, "-o", output]
    return subprocess.Popen(
        [*command, *OPTIONS, *more], stderr=subprocess.PIPE, preexec_fn=heed_interrupts
    )


@pytest.fixture(scope="module")
def undisturbed(real_source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("whole") / "x.hnv"
    hnv("encode", real_source, "-o", output, *OPTIONS)
    assert not Path(f"{output}.job").exists()
    return output.read_bytes()


def wait_for(run: subprocess.Popen[bytes], folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_random_moments(real_source: Path, undisturbed: bytes, tmp_path: Path) -> None:
    output, moments = tmp_path / "x.hnv", random.Random(1)
    folder = Path(f"{output}.job")
    for kill in range(5):
        run = start(real_source, output, *(["--resume"] if kill else []))
        wait_for(run, folder, "*.fit" if kill < 3 else "*.segm")
        time.sleep(moments.random())
        run.send_signal(signal.SIGKILL)
        run.communicate()
        if run.returncode == 0:
            break  # it was faster
        assert not output.exists() and folder.exists()
    run = start(real_source, output, "--resume", interval=10)
    assert run.wait(timeout=120) == 0
    assert output.read_bytes() == undisturbed
    assert not folder.exists()


def test_interrupt_says_how_to_go_on(real_source: Path, undisturbed: bytes, tmp_path: Path) -> None:
    output = tmp_path / "x.hnv"
    folder = Path(f"{output}.job")
    run = start(real_source, output, "-q")
    wait_for(run, folder, "*.fit")
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    if run.returncode == 0:
        pytest.skip("the encode was faster than the interrupt")
    assert run.returncode == 130
    assert said.decode().strip() == (
        "hnv: interrupted: the same command with --resume goes on from here"
    )
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    refused = hnv("encode", real_source, "-o", output, *OPTIONS, check=False)
    assert "--resume" in error_of(refused, 2)
    other = [*OPTIONS[:-1], "2"]
    refused = hnv("encode", real_source, "-o", output, *other, "--resume", check=False)
    assert "threads" in error_of(refused, 2)
    for path in folder.glob("*.fit"):
        path.write_bytes(path.read_bytes()[:1000])
    refused = hnv("encode", real_source, "-o", output, *OPTIONS, "--resume", "-q", check=False)
    assert "damaged" in error_of(refused, 1)
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    hnv("encode", real_source, "-o", output, *OPTIONS, "--resume")
    assert output.read_bytes() == undisturbed
    run = start(real_source, output, "-y")  # a finished file, and a new job
    wait_for(run, folder, "*.fit")
    run.kill()
    run.communicate()
    hnv("encode", real_source, "-o", output, *OPTIONS, "-y")
    assert output.read_bytes() == undisturbed and not folder.exists()


def test_nothing_begun_leaves_nothing(real_source: Path, tmp_path: Path) -> None:
    run = hnv("encode", real_source, "-o", tmp_path / "x.hnv", "--size", "300", "-q", check=False)
    error_of(run, 2)
    assert not list(tmp_path.iterdir())
    run = hnv("encode", "-", "-o", tmp_path / "x.hnv", "--bpp", 1, "--resume", check=False)
    assert "pipe" in error_of(run, 2)


def test_job_folder(tmp_path: Path) -> None:
    output = tmp_path / "x.hnv"
    job = JobFolder.open(output, {"preset": "fast"}, resume=False, discard=False)
    with pytest.raises(UsageError, match="another hnv"):
        JobFolder.open(output, {"preset": "fast"}, True, False)
    assert job_folder.read_or_make(job.folder, "0-1.segm", lambda: b"made", bytes) == b"made"
    job.close(is_finished=False)
    job = JobFolder.open(output, {"preset": "fast"}, True, False)
    assert job_folder.read_or_make(job.folder, "0-1.segm", bytes, bytes) == b"made"
    assert job_folder.read_or_make(None, "0-1.segm", lambda: b"other", bytes) == b"other"
    kept = job.folder / "0-1.segm"
    kept.write_bytes(kept.read_bytes().replace(b"made", b"maze"))
    with pytest.raises(HnervError, match=r"0-1\.segm is damaged"):
        job_folder.read_or_make(job.folder, "0-1.segm", bytes, bytes)
    job.close(is_finished=False)
    with pytest.raises(UsageError, match=r"another preset \('fast', now 'slow'\)"):
        JobFolder.open(output, {"preset": "slow"}, True, False)
    with pytest.raises(UsageError, match="`resume=True`"):
        JobFolder.open(output, {"preset": "fast"}, False, False)
    (job.folder / "job.json").write_text("[")
    with pytest.raises(UsageError, match="damaged"):
        JobFolder.open(output, {}, True, False)
    job = JobFolder.open(output, {}, False, True)
    assert not job.is_begun
    path = job.folder / "x.fit"
    fit_state.save(path, {"a": torch.ones(3), "b": [1, None]})
    with fit_state.opened(path) as state:
        assert state["b"] == [1, None]
    with pytest.raises(HnervError, match=r"x\.fit is damaged"), fit_state.opened(path) as state:
        state["c"]  # what only another encoder would have written
    path.write_bytes(b"no checkpoint")
    with pytest.raises(HnervError, match=r"x\.fit is damaged"), fit_state.opened(path):
        pass
    (job.folder / ".nfs0001").touch()
    job.close(is_finished=True)  # what is not ours stays, and harms nobody
    assert job.folder.exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "x.hnv.job"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for discard in (False, True):
        with pytest.raises(UsageError, match="not ours"):
            JobFolder.open(tmp_path / "x.hnv", {}, False, discard)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_work_is_kept_until_the_output_has_its_name(
    real_source: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "x.hnv"
    failing = (
        "import errno, os; from hnervcodec import cli; real = os.fsync\n"
        "def fsync(n):\n"
        "    if 'x.hnv.' in os.readlink(f'/proc/self/fd/{n}').rpartition('/')[2]:\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    real(n)\n"
        "os.fsync = fsync; cli.main()"
    )
    command: Args = [sys.executable, "-c", failing, "encode", real_source, "-o", output, *OPTIONS]
    run = subprocess.run([*command, "-q"], capture_output=True, check=False)
    assert "No space left" in error_of(run, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["x.hnv.job"]
    hnv("encode", real_source, "-o", output, *OPTIONS, "--resume")
    assert output.read_bytes() == undisturbed


def test_a_checkpoint_that_cannot_be_written_is_said(
    real_source: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    failing = (
        "import errno, os; from hnervcodec import cli; from hnervcodec.fitting import fit_state\n"
        "real = os.fsync\n"
        "def fsync(n):\n"
        "    if '.fit.' in os.readlink(f'/proc/self/fd/{n}'):\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    real(n)\n"
        "os.fsync = fsync; fit_state.INTERVAL = 0; cli.main()"
    )
    output = tmp_path / "x.hnv"
    command: Args = [sys.executable, "-c", failing, "encode", real_source, "-o", output, *OPTIONS]
    run = subprocess.run(command, capture_output=True, check=True)
    said = [line for line in run.stderr.decode().splitlines() if line.startswith("note:")]
    assert said and all("would be lost" in line and "No space left" in line for line in said)
    assert len(said) <= 3  # once for each segment
    assert output.read_bytes() == undisturbed
