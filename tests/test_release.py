"""What is said about versions is what the code says."""

import re

from running import ROOT

import hnervcodec
from hnervcodec.bitstream.container import MAJOR, MINOR


def test_the_newest_entry_is_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    newest = text[text.index("\n## [") :].split("\n## [")[1]
    assert newest.startswith(f"{hnervcodec.__version__}]")
    assert f"Bitstream {MAJOR}.{MINOR}." in newest


def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", text, re.M) == [hnervcodec.__version__]
    assert "arXiv:2304.02633" in text


def test_public_names_are_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    from hnervcodec.cli import all_commands

    for name in all_commands():
        assert re.search(rf"`(hnv )?{name}[ `]", text), name
    for name in ("encode", "Decoder", "FrameDataset", "register_imageio"):
        assert f"`{name}`" in text and name in hnervcodec.__all__
