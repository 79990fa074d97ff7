"""A `.hnv` file to any of its frames. `decode_video_frames` is found here too."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "decode_video_frames":  # only then is torch loaded
        return import_module("hnervcodec.decoding.dataset").decode_video_frames
    raise AttributeError(f"module 'hnervcodec.decoding' has no attribute {name!r}")
