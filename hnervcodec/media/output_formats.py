"""The names of the formats that decoded frames are written in: the only list of them. It loads no
library, so that command lines can be read without any."""

from __future__ import annotations

from pathlib import Path

from hnervcodec.errors import UsageError

STREAMED = ("y4m", "raw", "npy", "framemd5")  # formats that need nothing but a byte stream
CONTAINERS = ("mp4", "mov", "mkv", "webm", "gif")  # formats that libav's muxers write
FORMATS = (*STREAMED, "png", *CONTAINERS)
_OTHER_SUFFIXES = {".yuv": "raw", ".md5": "framemd5"}


def format_of(path: str) -> str:
    """The output format that a file name's suffix asks for; UsageError if it is none of ours."""
    suffixes = {f".{name}": name for name in FORMATS} | _OTHER_SUFFIXES
    suffix = Path(path).suffix.lower()
    if suffix not in suffixes:
        known = ", ".join(sorted(suffixes))
        raise UsageError(
            f"cannot tell a format from {path!r}: give the `format`, or one of {known}"
        )
    return suffixes[suffix]


def png_name(pattern: str, index: int) -> str:
    """The path of frame `index`'s picture. UsageError if `pattern` has another conversion."""
    try:
        return pattern % index if "%" in pattern else pattern
    except (TypeError, ValueError) as error:
        raise UsageError(f"{pattern!r} is no pattern such as frames/%05d.png: {error}") from error


def name_of(muxer: str) -> str:
    """The output format, and suffix, of one of libav's muxers."""
    return "mkv" if muxer == "matroska" else muxer
