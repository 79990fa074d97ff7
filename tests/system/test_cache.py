"""The user's cache is used only where nobody else can put files into it."""

import os
import pwd
from pathlib import Path

import pytest

from hnervcodec.system.cache import cache_folder


def test_a_safe_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a/b"))
    folder = cache_folder()
    assert folder == tmp_path / "a/b/hnervcodec" and folder.stat().st_mode & 0o777 == 0o700
    assert cache_folder() == folder


@pytest.mark.parametrize("open_to_others", [".", "a", "a/b", "a/b/hnervcodec"])
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_cache_that_others_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_to_others: str, mode: int
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a/b"))
    cache_folder()
    (tmp_path / open_to_others).chmod(mode)
    with pytest.raises(PermissionError, match="can be written by others"):
        cache_folder()
    # In one with the sticky bit, as in /tmp, nobody exchanges what belongs to others.
    (tmp_path / open_to_others).chmod(mode | 0o1000)
    if open_to_others == "a/b/hnervcodec":
        with pytest.raises(PermissionError):
            cache_folder()
    else:
        cache_folder()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
@pytest.mark.parametrize("theirs", ["a", "a/b/hnervcodec"])
def test_a_cache_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a/b"))
    cache_folder()
    os.chown(tmp_path / theirs, 54321, -1)
    with pytest.raises(PermissionError, match="can be written by others"):
        cache_folder()


@pytest.mark.parametrize("relative", ["cache", "./cache", ""])
def test_a_relative_name_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: str
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", relative)
    assert cache_folder() == tmp_path / "home/.cache/hnervcodec"
    assert not os.listdir()


def no_entry(number: int) -> None:
    raise KeyError(number)


def test_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    with pytest.raises(FileNotFoundError, match="no home"):
        cache_folder()
    monkeypatch.setenv("HOME", "home")  # relative
    with pytest.raises(FileNotFoundError, match="no home"):
        cache_folder()
    assert not os.listdir()
