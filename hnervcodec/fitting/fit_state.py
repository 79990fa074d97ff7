"""The state of an unfinished fit on the disk.

torch's own format, restricted to plain types and tensors, so that reading one runs no code.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hnervcodec.errors import HnervError
from hnervcodec.system.atomic_files import open_complete_or_absent

INTERVAL = 2.0  # seconds at least between two checkpoints of a fit: what a power cut may cost
SHARE = 0.02  # of the fit's time that writing checkpoints may take


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes `state`, a dictionary of plain types and tensors, to `path`: whole or not at all.

    OutputError if the disk refuses it.
    """
    import torch

    data = io.BytesIO()  # as torch reports a full disk as an error of its own
    torch.save(state, data)
    with open_complete_or_absent(path) as file:
        file.write(data.getbuffer())


@contextmanager
def opened(path: Path) -> Iterator[dict[str, Any]]:
    """What `save` has written to `path`, to be taken up inside the `with`. HnervError if it is no
    longer that, or not what is taken up there."""
    import torch

    try:
        yield torch.load(path, weights_only=True)
    except (
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        pickle.UnpicklingError,
    ) as error:
        raise HnervError(f"{path} is damaged: remove it, and its fit begins again") from error
