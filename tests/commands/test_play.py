"""hnv play, with players that do what players do."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import error_of, hnv

from hnervcodec import Decoder
from hnervcodec.media.sinks import Y4mSink

KEEPS = "cat > {folder}/shown; echo $0 $@ > {folder}/called"


def player(folder: Path, name: str, script: str) -> dict[str, str]:
    """An environment in which `name` is the only player."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\nPATH={os.environ['PATH']}\n{script.format(folder=folder)}\n")
    path.chmod(0o755)
    return {"PATH": str(path.parent)}


@pytest.mark.parametrize("name", ["ffplay", "mpv"])
@pytest.mark.slow
def test_a_player_gets_the_frames(name: str, small_file: Path, tmp_path: Path) -> None:
    run = hnv("play", small_file, "--frames", "1-3", env=player(tmp_path, name, KEEPS))
    assert run.stderr == f"playing with {name}\n".encode()
    with Decoder(small_file) as decoder, io.BytesIO() as expected:
        sink = Y4mSink(expected, decoder.video)
        for index, planes in decoder.frames([1, 2, 3]):
            sink.write(index, planes)
        assert (tmp_path / "shown").read_bytes() == expected.getvalue()
    assert str(small_file) in (tmp_path / "called").read_text()  # as the window's title


@pytest.mark.slow
def test_a_closed_window_is_a_quiet_end(small_file: Path, tmp_path: Path) -> None:
    env = player(tmp_path, "ffplay", "head -c 9 > /dev/null")
    assert hnv("play", small_file, "--frames", "0-4," * 500 + "0", "-q", env=env).stderr == b""


@pytest.mark.slow
def test_a_player_that_fails(small_file: Path, tmp_path: Path) -> None:
    env = player(tmp_path, "mpv", "echo warm-up >&2; echo no screen >&2; exit 2")
    run = hnv("play", small_file, "-q", env=env, check=False)
    assert error_of(run, 7) == "hnv: mpv failed: no screen\n"


@pytest.mark.slow
def test_interrupted(small_file: Path, tmp_path: Path) -> None:
    env = player(tmp_path, "ffplay", "echo $$ > {folder}/number; exec sleep 60")
    process = subprocess.Popen(
        [sys.executable, "-m", "hnervcodec", "play", small_file, "--frames", "0-4," * 500 + "0"],
        stderr=subprocess.PIPE,
        env={**os.environ, **env},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    number = tmp_path / "number"
    while not (number.exists() and number.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode()
    assert (process.returncode, said.splitlines()[-1]) == (130, "hnv: interrupted")
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


def test_no_player(small_file: Path, tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path)}
    message = error_of(hnv("play", small_file, env=env, check=False), 7)
    assert "neither ffplay nor mpv is installed: apt install ffmpeg" in message
    message = error_of(hnv("play", small_file, "--player", "mpv", env=env, check=False), 7)
    assert "mpv is not installed" in message


def test_a_damaged_file_shows_nothing(small_file: Path, tmp_path: Path) -> None:
    small_file.write_bytes(small_file.read_bytes()[:-9])
    env = player(tmp_path, "ffplay", KEEPS)
    error_of(hnv("play", small_file, env=env, check=False), 3)
    assert not (tmp_path / "called").exists()
