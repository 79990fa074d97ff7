"""Names of files that a shell, a file system or libav makes something of."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import EXCERPT, Args, hnv

from hnervcodec import Decoder, encode, inpaint
from hnervcodec.benchmark.plots import picture
from hnervcodec.errors import SourceError
from hnervcodec.media import presentation
from hnervcodec.media.frames import address
from hnervcodec.media.output_formats import format_of
from hnervcodec.media.outputs import open_file_sink
from hnervcodec.media.source import VideoSource

FAST: dict[str, Any] = {"bpp": 2, "preset": "ultrafast", "threads": 1}


@pytest.fixture
def folder(ffmpeg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where we are: three frames with sound, and a mask, under names with a colon."""
    monkeypatch.chdir(tmp_path)
    sound = ("-f", "lavfi", "-i", "sine=duration=0.1")
    picture: Args = [ffmpeg, "-v", "error", "-i", EXCERPT, *sound, "-vf", "scale=64:48"]
    subprocess.run(
        [*picture, "-frames:v", "3", "-c:v", "ffv1", "-c:a", "flac", "file:take:1.mkv"], check=True
    )
    box = "color=black:s=64x48,drawbox=8:8:16:16:white:fill"
    mask = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", box, "-frames:v", "1", "file:mask:1.png"]
    subprocess.run(mask, check=True)
    return tmp_path


def test_colons(folder: Path) -> None:
    made = encode("take:1.mkv", "take:1.hnv", mask="mask:1.png", **FAST)
    assert made.side_data_bytes > 0 and not made.notes  # the sound came, too
    assert 0 < made.error.samples[0] < 3 * 64 * 48
    inpaint("take:1.mkv", "in:painted.mkv", mask="mask:1.png", **FAST)
    with Decoder("take:1.hnv") as decoder:
        header = replace(decoder.video, frame_count=1)
        shown = presentation.part(decoder.reader, decoder.times, [0])
        for name in ("take:1.mp4", "take:1.mkv.y4m", "a:b.gif", "p:%d.png"):
            with open_file_sink(name, format_of(name), header, shown) as sink:
                sink.write(0, next(decoder.frames([0]))[1])
    names = {"take:1.mkv", "mask:1.png", "take:1.hnv", "in:painted.mkv", "take:1.mp4",
             "take:1.mkv.y4m", "a:b.gif", "p:0.png"}  # fmt: skip
    assert set(os.listdir()) == names


def test_what_is_an_address(folder: Path) -> None:
    assert address("take:1.mkv") == "file:take:1.mkv"
    os.rename("take:1.mkv", "concat:a|b")
    assert address("concat:a|b") == "file:concat:a|b"
    for name in ("http://host:80/x.mp4", "concat:a|c", "file:x", "in.mp4"):
        assert address(name) == name
    with pytest.raises(SourceError, match=r"take:9\.mkv: No such file or directory"):
        encode("take:9.mkv", "x.hnv", **FAST)
    for n in (1, 2):
        (folder / f"p:{n}.png").write_bytes((folder / "mask:1.png").read_bytes())
    with VideoSource("p:%d.png") as source:
        assert len(list(source.frames())) == 2


def test_long_names(folder: Path) -> None:
    source, coded, decoded = (
        "n" * (255 - len(suffix)) + suffix for suffix in (".mkv", ".hnv", ".mp4")
    )
    os.rename("take:1.mkv", source)
    encode(source, coded, **FAST)
    hnv("decode", coded, "-o", decoded, "-q", cwd=folder)
    assert set(os.listdir()) == {source, coded, decoded, "mask:1.png"}


ODD = [
    b"\xff.hnv",
    b"new\nline.hnv",
    "\u65e5\u672c.hnv".encode(),
    b"a$x_{$.hnv",
    b"-.hnv",
    b"a%d.hnv",
]


@pytest.mark.parametrize("name", ODD, ids=repr)
def test_other_odd_names(name: bytes, small_file: Path) -> None:
    folder = small_file.parent
    os.rename(small_file, os.fsencode(folder) + b"/" + name)
    command: list[str | bytes] = [sys.executable, "-m", "hnervcodec", "info", b"./" + name]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    run = subprocess.run(command, cwd=folder, env=strict, capture_output=True)
    assert run.returncode == 0 and run.stdout.startswith(b"./" + name + b": 22x14")
    with picture(folder / "x.png", title=os.fsdecode(name)) as axes:
        axes.plot([1, 2], [3, 4], label="line")
    assert (folder / "x.png").read_bytes().startswith(b"\x89PNG")


def test_decoded_files_keep_links_and_modes(small_file: Path) -> None:
    folder = small_file.parent
    for name in ("x.mkv", "x.y4m"):
        (folder / name).touch(mode=0o600)
        (folder / f"link-{name}").symlink_to(name)
        hnv("decode", small_file, "-o", folder / f"link-{name}", "-y", "-q")
        assert (folder / f"link-{name}").is_symlink()
        found = (folder / name).stat()
        assert found.st_size > 100 and found.st_mode & 0o777 == 0o600
