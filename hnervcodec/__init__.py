"""hnervcodec: a standalone neural video codec on HNeRV (arXiv 2304.02633).

    Decoder        random access to the frames of a .hnv file, as torchcodec's VideoDecoder
    FrameDataset   the frames of .hnv files for a torch DataLoader
    SegmentSampler a shuffle for it that loads each segment once
    decode_video_frames   frames at timestamps, as LeRobot asks for them
    encode         a file, an array or planes -> .hnv
    EncodeResult   what that made
    encode_many    many videos -> a folder of .hnv files and a manifest
    EncodedVideo   what became of one of them
    inpaint        a video with what a mask covers replaced
    VideoHeader    geometry, colour and time of a video
    register_imageio   makes imageio read .hnv files
    HnervError     base of every error raised on purpose, and its subclasses: FileError,
                   UnsupportedError, LimitError (a .hnv file), SourceError, OutputError, UsageError

Names are imported on first use: reading headers (`hnervcodec.bitstream.reader`) never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hnervcodec._version import __version__ as __version__

if TYPE_CHECKING:
    from hnervcodec.api import encode as encode
    from hnervcodec.api import encode_many as encode_many
    from hnervcodec.api import inpaint as inpaint
    from hnervcodec.bitstream.headers import VideoHeader as VideoHeader
    from hnervcodec.decoding.dataset import FrameDataset as FrameDataset
    from hnervcodec.decoding.dataset import SegmentSampler as SegmentSampler
    from hnervcodec.decoding.dataset import decode_video_frames as decode_video_frames
    from hnervcodec.decoding.decoder import Decoder as Decoder
    from hnervcodec.decoding.imageio_plugin import register_imageio as register_imageio
    from hnervcodec.encoding.encoder import EncodeResult as EncodeResult
    from hnervcodec.encoding.manifest import EncodedVideo as EncodedVideo
    from hnervcodec.errors import FileError as FileError
    from hnervcodec.errors import HnervError as HnervError
    from hnervcodec.errors import LimitError as LimitError
    from hnervcodec.errors import OutputError as OutputError
    from hnervcodec.errors import SourceError as SourceError
    from hnervcodec.errors import UnsupportedError as UnsupportedError
    from hnervcodec.errors import UsageError as UsageError

_HOME = {
    "Decoder": "decoding.decoder",
    "EncodeResult": "encoding.encoder",
    "EncodedVideo": "encoding.manifest",
    "FileError": "errors",
    "FrameDataset": "decoding.dataset",
    "HnervError": "errors",
    "LimitError": "errors",
    "OutputError": "errors",
    "SegmentSampler": "decoding.dataset",
    "SourceError": "errors",
    "UnsupportedError": "errors",
    "UsageError": "errors",
    "VideoHeader": "bitstream.headers",
    "decode_video_frames": "decoding.dataset",
    "encode": "api",
    "encode_many": "api",
    "inpaint": "api",
    "register_imageio": "decoding.imageio_plugin",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"hnervcodec.{_HOME[name]}"), name)
    raise AttributeError(f"module 'hnervcodec' has no attribute {name!r}")
