"""Output files: whole or absent, in nobody else's way, and like what they replace."""

import os
import stat
from pathlib import Path
from unittest import mock

import pytest

from hnervcodec.errors import OutputError
from hnervcodec.system import atomic_files
from hnervcodec.system.atomic_files import complete_or_absent, open_complete_or_absent


def write(path: Path, data: bytes = b"new") -> None:
    with open_complete_or_absent(path) as file:
        file.write(data)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_whole_or_absent(tmp_path: Path) -> None:
    with pytest.raises(KeyError), complete_or_absent(tmp_path / "x") as partial:
        partial.write_bytes(b"half")
        raise KeyError
    assert not list(tmp_path.iterdir())
    write(tmp_path / "x")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_a_name_that_is_there_is_not_used(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f".x.{'0' * 16}.part").symlink_to(victim)
    foreseen = mock.patch.object(atomic_files, "token_hex", lambda count: "00" * count)
    with foreseen, pytest.raises(OutputError, match="File exists"):
        write(tmp_path / "x")
    assert victim.read_bytes() == b"precious" and not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127, "\U0001f600" * 63, "n" * 251 + ".mkv"])
def test_the_longest_names(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(OutputError, match="File name too long"):
        write(tmp_path / (name + "nnnn"))


def test_a_symbolic_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    link = tmp_path / "link"
    link.symlink_to("a/target")  # which is not there yet
    for data in (b"first", b"second"):
        write(link, data)
        assert link.is_symlink() and (tmp_path / "a/target").read_bytes() == data
    (tmp_path / "ring").symlink_to("ring")
    with pytest.raises(OutputError, match="symbolic links"):
        write(tmp_path / "ring")
    (tmp_path / "lost").symlink_to("nowhere/target")
    with pytest.raises(OutputError, match="No such file"):
        write(tmp_path / "lost")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o606, 0o666])
def test_the_mode_stays(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(mode)
    with open_complete_or_absent(path) as file:
        assert mode_of(Path(file.name)) == mode  # while it is being written, too
        file.write(b"new")
    assert mode_of(path) == mode and path.read_bytes() == b"new"


def test_a_new_file_has_the_mode_that_is_usual(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write(tmp_path / "x")
    assert mode_of(tmp_path / "x") == mode_of(tmp_path / "usual")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    os.chown(path, 54321, 54322)
    path.chmod(0o640)
    write(path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, mode_of(path)) == (54321, 54322, 0o640)
    with mock.patch("os.fchown", side_effect=PermissionError):
        write(path)
    assert mode_of(path) == 0o600  # not for a group that could not read it before


def test_devices_are_written_as_they_are(tmp_path: Path) -> None:
    write(Path("/dev/null"))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OutputError, match="No space left"):
        write(Path("/dev/full"))
    with pytest.raises(OutputError, match="it is a folder"):
        write(tmp_path)
    with pytest.raises(OutputError, match="No such file"):
        write(tmp_path / "nowhere/x")
    with pytest.raises(OutputError, match="Not a directory"):
        write(Path("/dev/null/x"))


def test_names_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with complete_or_absent("take:1.mp4") as partial:
        assert partial.is_absolute()
    assert os.listdir() == ["take:1.mp4"]
