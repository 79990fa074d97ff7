"""Encodes of many videos: names, the manifest, failures, and that whatever stops one ends in the
same files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from running import EXCERPT, Args, heed_interrupts, hnv

from hnervcodec import encode, encode_many
from hnervcodec.encoding.manifest import Manifest, Record
from hnervcodec.encoding.video_files import find, output_names
from hnervcodec.errors import OutputError, SourceError, UsageError

FAST: dict[str, Any] = {"bpp": 2, "preset": "ultrafast", "threads": 1}
OPTIONS = ("--bpp", "2", "--preset", "ultrafast", "--threads", "1")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """a.mp4, sub/b.mp4, the broken c.mp4, and what is no video; three frames each."""
    folder = tmp_path_factory.mktemp("many") / "clips"
    (folder / "sub").mkdir(parents=True)
    for n, name in enumerate(("a.mp4", "sub/b.mp4")):
        command: Args = [ffmpeg, "-v", "error", "-ss", str(n), "-i", EXCERPT, "-an"]
        command += ["-vf", "scale=48:32", "-frames:v", "3", folder / name]
        subprocess.run(command, check=True)
    (folder / "c.mp4").write_bytes((folder / "a.mp4").read_bytes()[:700])
    (folder / "notes.txt").write_text("hello")
    (folder / "._a.mp4").write_text("of another system")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, by the names from there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an undisturbed encode of the folder."""
    out = tmp_path_factory.mktemp("whole") / "new/out"
    made = encode_many(clips, out, **FAST)
    assert [Path(video.source).name for video in made if video.error] == ["c.mp4"]
    return files(out)


def test_one_broken_of_three(
    clips: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(whole) == {"a.hnv", "sub/b.hnv", "manifest.jsonl"}
    lines = [json.loads(line) for line in whole["manifest.jsonl"].splitlines()]
    assert [line["name"] for line in lines] == ["a.hnv", "sub/b.hnv"]
    assert all(len(whole[line["name"]]) == line["bytes"] for line in lines)
    alone = tmp_path / "alone.hnv"
    result = encode(clips / "sub/b.mp4", alone, **FAST)
    assert alone.read_bytes() == whole["sub/b.hnv"]
    assert lines[1]["psnr"] == round(result.error.average, 4) and lines[1]["frames"] == 3
    monkeypatch.chdir(clips.parent)
    out = tmp_path / "out"
    sources = ("clips/[ac].mp4", "clips/sub")
    run = hnv("encode", *sources, "-o", out, *OPTIONS, "--workers", "2", check=False)
    said = run.stderr.decode().splitlines()
    assert run.returncode == 9 and said[-1] == "hnv: 1 of 3 videos failed"
    assert [line for line in said if "c.mp4" in line] == [
        "failed: cannot open clips/c.mp4: Invalid data found when processing input"
    ]
    assert files(out) == whole


def test_what_is_finished_is_not_done_again(
    clips: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for name, data in whole.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    before = (out / "a.hnv").stat().st_mtime_ns
    (out / "a.hnv.job").mkdir()  # as it was killed when its file had its name already
    with open(out / "manifest.jsonl", "ab") as file:
        file.write(b'{"name": "sub/b.h')  # the disk was full
    with pytest.raises(UsageError, match=r"a\.hnv \(and 1 more\) exists"):
        encode_many(clips, out, **{**FAST, "bpp": 3})
    (out / "sub/b.hnv").write_bytes(b"of somebody else")
    with pytest.raises(UsageError, match=r"sub/b\.hnv exists"):
        encode_many(clips, out, **FAST, resume=True)
    made = encode_many([clips], out, **FAST, resume=True, discard=True)
    assert [video.was_finished for video in made] == [True, False, False]
    assert files(out) == whole and (out / "a.hnv").stat().st_mtime_ns == before
    assert not (out / "a.hnv.job").exists()


@pytest.mark.slow
def test_killed_and_resumed(clips: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    """Interrupted in the middle of the first video, killed in the middle of the second."""
    out = tmp_path / "out"
    often = (
        "from hnervcodec import cli; from hnervcodec.fitting import fit_state; "
        "fit_state.INTERVAL = 0; cli.main()"
    )
    command: Args = [sys.executable, "-c", often, "encode", clips, "-o", out, *OPTIONS, "--resume"]
    for ending, job in ((signal.SIGINT, "a.hnv.job"), (signal.SIGKILL, "sub/b.hnv.job")):
        run = subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=heed_interrupts)
        deadline = time.monotonic() + 120
        while not list(out.glob(f"{job}/*.fit")):
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        run.send_signal(ending)
        _, said = run.communicate(timeout=60)
        if ending is signal.SIGINT:
            assert run.returncode == 130 and b"with --resume goes on from here" in said
    assert files(out)["a.hnv"] == whole["a.hnv"] and not (out / "sub/b.hnv").exists()
    refused = hnv("encode", clips, "-o", out, *OPTIONS, check=False)
    assert refused.returncode == 2 and b"--resume" in refused.stderr
    assert hnv("encode", clips, "-o", out, *OPTIONS, "--resume", check=False).returncode == 9
    assert files(out) == whole


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["a.mp4", "b/a.mp4"], ["a.hnv", "b/a.hnv"]),
        (["a.mp4", "a.mkv", "a.mp4.ts"], ["a.mp4.hnv", "a.mkv.hnv", "a.mp4.ts.hnv"]),
        (["a.mp4", "A.MKV", "b.c"], ["a.mp4.hnv", "A.MKV.hnv", "b.hnv"]),
    ],
)
def test_names(sources: list[str], names: list[str]) -> None:
    made = output_names(sources)
    assert made == names
    assert len({name.casefold() for name in made}) == len(sources)


def test_long_names() -> None:
    (short, long) = output_names([f"{'x' * 250}.mp4", f"sub/{'ü' * 126}.ts"])
    assert short == f"{'x' * 250}.hnv"
    assert long.startswith("sub/ü") and len(os.fsencode(long.removeprefix("sub/"))) <= 255


def test_which_videos(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders, links, patterns, each once, and nothing below the output folder."""
    shutil.copytree(clips, tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in/link.mp4").symlink_to("a.mp4")
    (tmp_path / "in/circle").symlink_to("..")
    shutil.copytree(clips, tmp_path / "in/out")
    everything = ["in/a.mp4", "in/c.mp4", "in/link.mp4", "in/sub/b.mp4"]
    assert find(["in"], Path("in/out")) == (str(tmp_path / "in"), everything)
    assert find(["in"], Path("in"))[1][-1] == "in/sub/b.mp4"
    root, found = find(["in/sub/b.mp4", "in/*.mp4", "in/a.mp4"], Path("out"))
    assert root == str(tmp_path / "in")
    assert found == ["in/sub/b.mp4", "in/a.mp4", "in/c.mp4", "in/link.mp4"]
    (tmp_path / "[x].mp4").touch()
    assert find(["[x].mp4"], Path("out"))[1] == ["[x].mp4"]
    (tmp_path / "empty").mkdir()
    for nothing in ("empty", "*.avi"):
        with pytest.raises(SourceError, match=r"holds no videos|no file matches"):
            find([nothing], Path("out"))


def test_what_cannot_be_had(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="need a folder"):
        encode_many(clips, tmp_path / "file", **FAST)
    (tmp_path / "manifest.jsonl").write_text("{}\n{}\n")
    with pytest.raises(OutputError, match="no manifest of ours"):
        encode_many(clips, tmp_path, **FAST)
    made = encode_many([tmp_path / "none.mp4"], tmp_path / "new", **FAST)
    assert made[0].error == f"{tmp_path}/none.mp4: no such file" and not made[0].record
    assert not (tmp_path / "new").exists()
    assert hnv("encode", clips, check=False).returncode == 2


def test_manifest_lines_survive_each_other(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    record = Record(name="b.hnv", source="b", frames=1, bytes=1, psnr=1.5, sha256="", made_from="")
    manifest.add(record)
    manifest.path.write_bytes(manifest.path.read_bytes() + b'{"name"')
    Manifest(tmp_path).add(record)
    assert manifest.read() == {"b.hnv": record} and manifest.path.read_bytes().count(b"\n") == 2
    manifest.tidy()
    assert manifest.path.read_bytes() == b""  # as the file is not there
