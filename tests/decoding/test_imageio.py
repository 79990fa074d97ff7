"""imageio's v3 functions on .hnv files, after one call."""

import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from hnervcodec import Decoder, register_imageio
from hnervcodec.errors import FileError

register_imageio()


def test_frames(real_file: Path) -> None:
    with Decoder(real_file, dimension_order="NHWC") as decoder:
        whole = decoder[:].numpy()
    assert np.array_equal(iio.imread(real_file, index=3), whole[3])
    assert np.array_equal(iio.imread(real_file, index=-1), whole[-1])
    assert np.array_equal(iio.imread(real_file), whole)
    assert np.array_equal(np.stack(list(iio.imiter(real_file))), whole)
    with iio.imopen(real_file, "r") as file:
        assert np.array_equal(file.read(index=17), whole[17])
        assert np.array_equal(file.read(index=2), whole[2])
    data = real_file.read_bytes()
    assert np.array_equal(iio.imread(data, index=3, extension=".hnv"), whole[3])
    assert np.array_equal(iio.imread(data, index=3, plugin="hnv"), whole[3])


def test_facts(real_file: Path) -> None:
    every, one = iio.improps(real_file), iio.improps(real_file, index=4)
    assert (every.shape, every.n_images, every.is_batch) == ((20, 47, 63, 3), 20, True)
    assert (one.shape, one.dtype, one.is_batch) == ((47, 63, 3), np.dtype(np.uint8), False)
    facts = iio.immeta(real_file)
    assert (facts["fps"], facts["duration"], facts["frames"]) == (25.0, 0.8, 20)
    assert facts["codec"] == "hnv" and "chroma" not in facts
    assert iio.immeta(real_file, exclude_applied=False)["chroma"] == "4:2:0"


def test_what_there_is_not(real_file: Path, small_file: Path, tmp_path: Path) -> None:
    for index in (20, -21):
        with pytest.raises(ValueError, match=f"frame {index} of 20"):
            iio.imread(real_file, index=index)
    with pytest.raises(OSError, match="can not handle"):
        iio.imread(b"no such thing", plugin="hnv")
    with pytest.raises(OSError):
        iio.imwrite(tmp_path / "x.hnv", np.zeros((1, 8, 8, 3), np.uint8), plugin="hnv")
    small_file.write_bytes(small_file.read_bytes()[:-9])
    with pytest.raises(FileError):
        iio.imread(small_file, index=0)


def test_reading_does_not_load_torch(real_file: Path) -> None:
    code = (
        "import sys, hnervcodec, imageio.v3 as iio; hnervcodec.register_imageio();"
        f"iio.imread({str(real_file)!r}, index=3); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
