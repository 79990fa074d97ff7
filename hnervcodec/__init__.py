"""hnervcodec: a standalone neural video codec on HNeRV (arXiv 2304.02633).

    Decoder        random access to the frames of a .hnv file, as torchcodec's VideoDecoder
    FrameDataset   the frames of .hnv files for a torch DataLoader
    encode         a file, an array or planes -> .hnv
    EncodeResult   what that made
    VideoHeader    geometry, colour and time of a video
    register_imageio   makes imageio read .hnv files
    HnervError     base of every error raised on purpose

Names are imported on first use: reading headers (`hnervcodec.reader`) never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hnervcodec.api import encode as encode
    from hnervcodec.dataset import FrameDataset as FrameDataset
    from hnervcodec.decoder import Decoder as Decoder
    from hnervcodec.encoder import EncodeResult as EncodeResult
    from hnervcodec.errors import HnervError as HnervError
    from hnervcodec.imageio_plugin import register_imageio as register_imageio
    from hnervcodec.syntax import VideoHeader as VideoHeader

_HOME = {
    "Decoder": "decoder", "FrameDataset": "dataset", "encode": "api", "EncodeResult": "encoder",
    "HnervError": "errors", "VideoHeader": "syntax", "register_imageio": "imageio_plugin",
}  # fmt: skip
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"hnervcodec.{_HOME[name]}"), name)
    raise AttributeError(f"module 'hnervcodec' has no attribute {name!r}")
