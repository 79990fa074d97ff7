"""Job folders that hold what they should not, and what is remembered of finished jobs."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from hnervcodec import encode
from hnervcodec.bitstream.fields import crc32
from hnervcodec.encoding.finished_encodes import is_finished, remember
from hnervcodec.encoding.job_folder import JobFolder, folder_of
from hnervcodec.errors import HnervError, OutputError, UsageError

OPTIONS: dict[str, Any] = {
    "bpp": 2, "preset": "ultrafast", "threads": 1, "limit": 4, "segment": 2, "scenecut": 0,
}  # fmt: skip


def interrupt(number: int, progress: object) -> None:
    if number == 1:
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def interrupted(real_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an encode that ended after the first of two segments."""
    output = tmp_path_factory.mktemp("interrupted") / "x.hnv"
    with pytest.raises(KeyboardInterrupt):
        encode(real_source, output, on_progress=interrupt, **OPTIONS)
    return {path.name: path.read_bytes() for path in folder_of(output).iterdir()}


@pytest.fixture
def output(interrupted: dict[str, bytes], tmp_path: Path) -> Path:
    """An output with such a job folder."""
    folder = folder_of(tmp_path / "x.hnv")
    folder.mkdir()
    for name, data in interrupted.items():
        (folder / name).write_bytes(data)
    return tmp_path / "x.hnv"


def sealed(data: bytes) -> bytes:
    """As a job folder keeps it, with a checksum that is right."""
    return data + crc32(data).to_bytes(4, "little")


@pytest.mark.parametrize("name", ["scan", "0.done", "*.segm"])
@pytest.mark.parametrize("data", [b"no", b"{}", b"[1, 2]", b"{}\n", b"\xff\xfe" * 40], ids=repr)
def test_wrong_contents_are_refused_by_name(
    real_source: Path, output: Path, name: str, data: bytes
) -> None:
    (path,) = folder_of(output).glob(name)
    path.write_bytes(sealed(data))
    if name == "*.segm":
        (folder_of(output) / "0.done").unlink()
    with pytest.raises(HnervError, match=f"{path.name} is damaged: remove it"):
        encode(real_source, output, resume=True, **OPTIONS)
    path.unlink()
    if data == b"no":
        encode(real_source, output, resume=True, **OPTIONS)
        assert os.listdir(output.parent) == [output.name]


def test_the_work_of_another_segment_is_refused(real_source: Path, output: Path) -> None:
    folder = folder_of(output)
    made, _, payload = (folder / "0.done").read_bytes()[:-4].partition(b"\n")
    facts = json.loads(made) | {"frame_count": 3}
    (folder / "0.done").write_bytes(sealed(json.dumps(facts).encode() + b"\n" + payload))
    with pytest.raises(HnervError, match=r"0\.done is damaged"):
        encode(real_source, output, resume=True, **OPTIONS)


@pytest.mark.parametrize(
    "data", [b"", b"[", b"[]", b"3", b"null", b"\xff", b'{"hnv": "0"}'], ids=repr
)
def test_a_description_that_is_none(real_source: Path, output: Path, data: bytes) -> None:
    (folder_of(output) / "job.json").write_bytes(data)
    with pytest.raises(UsageError, match=r"job\.json is damaged|begun with another"):
        encode(real_source, output, resume=True, **OPTIONS)
    if not data:
        encode(real_source, output, discard=True, **OPTIONS)


def test_what_is_no_folder(tmp_path: Path) -> None:
    output = tmp_path / "x.hnv"
    folder = folder_of(output)
    folder.write_text("a file")
    for discard in (False, True):
        with pytest.raises(UsageError, match="not a folder of ours: move it away"):
            JobFolder.open(output, {}, False, discard)
    folder.unlink()
    (tmp_path / "elsewhere").mkdir()
    for target in ("elsewhere", "nowhere"):
        folder.symlink_to(target)
        with pytest.raises(UsageError, match="not a folder of ours"):
            JobFolder.open(output, {}, False, True)
        folder.unlink()


@pytest.mark.parametrize("name", ["0-9.segm", "0.done", "job.json", "scan"])
def test_what_is_no_file(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path / "x.hnv")
    for make in (os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)):
        folder.mkdir()
        make(folder / name)
        for resume in (False, True):
            with pytest.raises(UsageError, match=f"{name} is not a file of ours"):
                JobFolder.open(tmp_path / "x.hnv", {}, resume, not resume)
        (folder / name).rmdir() if (folder / name).is_dir() else (folder / name).unlink()
        folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_another_owner(tmp_path: Path) -> None:
    output = tmp_path / "x.hnv"
    folder_of(output).mkdir()
    for owner, name in ((54321, "number 54321"), (1, "daemon")):
        os.chown(folder_of(output), owner, -1)
        for resume in (False, True):
            with pytest.raises(UsageError, match=rf"x\.hnv\.job belongs to another user \({name}"):
                JobFolder.open(output, {}, resume, not resume)
    os.chown(folder_of(output), 0, -1)
    JobFolder.open(output, {}, False, False).close(is_finished=True)


def test_a_full_disk_leaves_no_folder(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch("os.fsync", side_effect=full), pytest.raises(OutputError, match="No space"):
        JobFolder.open(tmp_path / "x.hnv", {}, False, False)
    assert not os.listdir(tmp_path)


def test_a_folder_that_somebody_removes(tmp_path: Path) -> None:
    job = JobFolder.open(tmp_path / "x.hnv", {}, False, False)
    shutil.rmtree(job.folder)
    assert not job.is_begun
    job.close(is_finished=False)


def test_its_name(tmp_path: Path) -> None:
    assert folder_of("a/x.hnv") == Path("a/x.hnv.job")
    names = {folder_of(tmp_path / ("n" * 250 + end)).name for end in ("a.hnv", "b.hnv")}
    assert len(names) == 2 and all(len(name) < 256 for name in names)
    (tmp_path / "link").symlink_to("a/target")
    assert folder_of(tmp_path / "link") == tmp_path / "a/target.job"


def test_an_output_that_is_a_link_or_has_a_long_name(real_source: Path, tmp_path: Path) -> None:
    target, link = tmp_path / ("n" * 251 + ".hnv"), tmp_path / "link.hnv"
    link.symlink_to(target.name)
    options = {**OPTIONS, "limit": 2}
    encode(real_source, link, **options)
    made = target.read_bytes()
    target.chmod(0o600)
    encode(real_source, link, **options)
    assert target.read_bytes() == made and target.stat().st_mode & 0o777 == 0o600
    assert link.is_symlink() and len(os.listdir(tmp_path)) == 2


def test_only_what_is_still_there_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache = tmp_path / "cache/hnervcodec"
    outputs = [tmp_path / f"{name}.hnv" for name in "abc"]
    facts = {"source": [1, 2]}
    for output in outputs:
        output.write_bytes(b"made")
        remember(str(output), facts)
    assert len(list(cache.iterdir())) == 3
    assert all(is_finished(str(output), facts) for output in outputs)
    outputs[0].unlink()
    outputs[1].write_bytes(b"changed")
    (cache / "old.finished").write_text('{"output": [4, 5]}')
    (cache / "torn.finished").write_text("[")
    (cache / "other").touch()
    remember(str(outputs[2]), facts)
    assert len(list(cache.glob("*.finished"))) == 1 and (cache / "other").exists()
    assert [is_finished(str(output), facts) for output in outputs] == [
        False,
        False,
        True,
    ]
    assert not is_finished(str(outputs[2]), {"source": [1, 3]})
