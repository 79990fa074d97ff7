"""RGB of packed samples in C, beside libav's of the planes."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vectors import make_video

from hnervcodec.bitstream.fields import crc32
from hnervcodec.decoding import picture_library, rgb
from hnervcodec.decoding.rgb import PackedRgb, PlanesRgb, rgb_writer
from hnervcodec.media.colour import RgbConverter
from hnervcodec.planes import pack, packed_channels, plane_bytes, unpack
from hnervcodec.system import kernels

KERNELS = kernels.for_this_machine(picture_library.KERNELS)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_c_and_libav_make_the_same_bytes(kernel: kernels.Kernel) -> None:
    """Of noise, whose colours leave RGB, and of samples that are wider than the picture."""
    if (loaded := next(kernels.loadable([kernel]), None)) is None:
        pytest.skip("not on this processor")
    library, random = rgb.with_types(loaded), np.random.default_rng(0)
    sizes = (24, 30), (130, 24), (176, 144)  # less than a vector, more than some, and whole ones
    for width, height in sizes:
        video = make_video(width, height)
        packed = random.integers(0, 256, (6, height // 2 + 3, width // 2 + 5), np.uint8)
        planes = unpack(packed, 1, width, height)
        expected, made = np.empty((2, 3, height, width), np.uint8)
        for site, matrix, is_full in product((0, 1, 2, 3, 4, 5, 6), (1, 2, 4, 7, 9), (0, 1)):
            colours: dict[str, Any] = {"full_range": bool(is_full), "chroma_siting": site}
            header = replace(video, matrix_coefficients=matrix, **colours)
            RgbConverter(header).write(planes, expected)
            made.fill(0)
            assert PackedRgb(header, library).write(packed, made) == crc32(plane_bytes(planes))
            assert np.array_equal(made, expected), (width, height, site, matrix, is_full)


def test_what_c_does_not_serve_is_made_by_libav() -> None:
    served = rgb_writer(make_video(64, 48))
    assert isinstance(served, PackedRgb) and served.shape == (48, 64)
    others: list[tuple[Any, ...]] = [
        (63, 48, 1, 8),
        (64, 47, 1, 8),
        (64, 22, 1, 8),
        (64, 48, 0, 8),
        (64, 48, 2, 8),
        (64, 48, 1, 10),
    ]
    for size in others:
        video = make_video(*size)
        writer = rgb_writer(video)
        assert isinstance(writer, PlanesRgb), size
        random = np.random.default_rng(0)
        planes = unpack(
            random.integers(0, 256, (packed_channels(video.chroma_format), 24, 32)).astype(
                np.uint8 if video.bit_depth == 8 else np.uint16
            ),
            video.chroma_format,
            video.width,
            video.height,
        )
        made = np.empty((3, video.height, video.width), np.uint8)
        packed = pack(planes, video.chroma_format, 24, 32)
        assert writer.write(packed, made) == crc32(plane_bytes(planes))
        assert np.array_equal(made, RgbConverter(video)(planes).transpose(2, 0, 1))
    scaled = rgb_writer(make_video(64, 48), (0, 0, 24, 32), (20, 30))
    assert isinstance(scaled, PlanesRgb) and scaled.shape == (20, 30)


def test_pixels_with_their_colours_together_and_a_part_of_the_frame() -> None:
    """As `dimension_order` NHWC and `crop` ask for them; of strided samples, as torch's may be."""
    video = make_video(64, 48)
    packed = np.random.default_rng(0).integers(0, 256, (6, 24, 32), np.uint8)
    apart, together = np.empty((3, 48, 64), np.uint8), np.empty((48, 64, 3), np.uint8)
    writer = rgb_writer(video)
    checksum = writer.write(packed, apart)
    strided = np.ascontiguousarray(packed.transpose(1, 2, 0)).transpose(2, 0, 1)
    assert writer.write(strided, together.transpose(2, 0, 1)) == checksum
    assert np.array_equal(together.transpose(2, 0, 1), apart)
    crop = 3, 5, 24, 33
    part, theirs = np.empty((2, 3, 24, 33), np.uint8)
    writer = rgb_writer(video, crop)
    assert isinstance(writer, PackedRgb) and writer.shape == (24, 33)
    assert writer.write(packed, part) == checksum
    assert PlanesRgb(video, crop, None).write(packed, theirs) == checksum
    assert np.array_equal(part, theirs) and np.array_equal(part, apart[:, 3:27, 5:38])


def test_without_a_compiler_or_an_exact_kernel_libav_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was built with the package needs no compiler."""
    monkeypatch.setattr(rgb, "library", rgb.library.__wrapped__)
    kernels.build(picture_library.KERNELS, tmp_path)
    monkeypatch.setattr(kernels, "BUILT", tmp_path)
    monkeypatch.setenv("CC", "/nowhere")
    assert isinstance(rgb_writer(make_video(64, 48)), PackedRgb)
    monkeypatch.setattr(rgb, "KNOWN_CRC", rgb.KNOWN_CRC ^ 1)
    assert isinstance(rgb_writer(make_video(64, 48)), PlanesRgb)
    monkeypatch.undo()
    monkeypatch.setattr(rgb, "library", rgb.library.__wrapped__)
    monkeypatch.setenv("CC", "/nowhere")
    assert isinstance(rgb_writer(make_video(64, 48)), PlanesRgb)
