"""What hnv decode writes: every format comes back with the decoder's frames, and an encoder gets
what it is asked for in ffmpeg's words."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from running import ROOT, error_of, hnv
from vectors import make_file, make_video, random_segment

from hnervcodec import Decoder
from hnervcodec.benchmark.other_codecs import code
from hnervcodec.bitstream.ancillary import Display
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.errors import HnervError, UsageError
from hnervcodec.media.colour import RgbConverter
from hnervcodec.media.output_codecs import choose
from hnervcodec.media.output_formats import FORMATS
from hnervcodec.media.outputs import open_file_sink
from hnervcodec.media.presentation import constant, part
from hnervcodec.media.source import VideoSource
from hnervcodec.metrics.psnr import psnr
from hnervcodec.planes import plane_bytes


def rgb_frames(path: Path) -> list[np.ndarray]:
    """As an ordinary player shows them."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(("name", "least"), [("x.webm", 30), ("x.gif", 25), ("x.mp4", 30)])
def test_others_play_it(name: str, least: float, real_file: Path, tmp_path: Path) -> None:
    hnv("decode", real_file, "-o", tmp_path / name, "--frames", "5-9")
    shown = rgb_frames(tmp_path / name)
    with Decoder(real_file, dimension_order="NHWC") as decoder:
        expected = decoder[5:10].numpy()
    assert len(shown) == 5
    for frame, own in zip(shown, expected, strict=True):
        mse = np.square(frame[:47, :63].astype(float) - own).mean()
        assert psnr(mse, 255) > least
    with av.open(str(tmp_path / name)) as container:
        assert (
            container.streams.video[0].codec.canonical_name
            == {"x.webm": "av1", "x.gif": "gif", "x.mp4": "h264"}[name]
        )
        assert container.duration is not None
        assert float(container.duration) / av.time_base == pytest.approx(0.2, abs=0.011)


def test_npy_is_what_the_decoder_gives(real_file: Path, tmp_path: Path) -> None:
    hnv("decode", real_file, "-o", tmp_path / "x.npy", "--frames", "3-12")
    array = np.load(tmp_path / "x.npy", mmap_mode="r")
    with Decoder(real_file, dimension_order="NHWC") as decoder:
        assert array.dtype == np.uint8 and np.array_equal(array, decoder[3:13].numpy())
    piped = hnv("decode", real_file, "--frames", "3-12", "--format", "npy").stdout
    assert piped == (tmp_path / "x.npy").read_bytes()


def test_npy_above_eight_bits(tmp_path: Path) -> None:
    video = VideoHeader(22, 14, 1, Fraction(25), 10)
    (tmp_path / "x.hnv").write_bytes(make_file(video, [random_segment(video, 3)]))
    hnv("decode", tmp_path / "x.hnv", "-o", tmp_path / "x.npy")
    array = np.load(tmp_path / "x.npy")
    assert array.dtype == np.uint16 and array.shape == (3, 14, 22, 3) and array.max() > 255


def test_encoder_options(real_file: Path, tmp_path: Path) -> None:
    words = ["-c:v", "libx265", "-crf", "18", "-preset:v", "ultrafast", "-pix_fmt", "yuv444p"]
    run = hnv("decode", real_file, "-o", tmp_path / "x.mp4", "--", *words)
    assert run.stderr == b""
    with av.open(str(tmp_path / "x.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec.canonical_name, stream.format.name) == ("hevc", "yuv444p")
        assert sum(1 for _ in container.decode(stream)) == 20
    sizes = []
    for crf in (10, 40):
        hnv("decode", real_file, "-o", tmp_path / "x.mp4", "-y", "--", "-crf", crf)
        sizes.append((tmp_path / "x.mp4").stat().st_size)
    assert sizes[0] > 2 * sizes[1]


@pytest.mark.parametrize(
    ("output", "words", "code", "message"),
    [
        ("x.mp4", "-c:v nope", 7, "no encoder 'nope'"),
        ("x.mp4", "-c:v aac", 2, "aac is no encoder of video"),
        ("x.mp4", "-crff 18", 2, "libx264 has no option -crff"),
        ("x.mp4", "-crf", 2, "-crf lacks its value"),
        ("x.mp4", "-crf 18 fast", 2, "'fast' is no encoder option"),
        ("x.mp4", "-crf abc", 7, "libx264 refuses"),
        ("x.mp4", "-pix_fmt rgb24", 2, "libx264 does not encode 'rgb24'"),
        ("x.mkv", "-vf scale=8:8", 2, "pipe into ffmpeg"),
        ("x.webm", "-c:v libx264", 7, "does not go into webm"),
        ("x.y4m", "-crf 18", 2, "y4m takes no encoder options"),
    ],
)
def test_wrong_encoder_options(
    output: str, words: str, code: int, message: str, small_file: Path, tmp_path: Path
) -> None:
    run = hnv("decode", small_file, "-o", tmp_path / output, "--", *words.split(), check=False)
    assert message in error_of(run, code)
    assert [path.name for path in tmp_path.iterdir()] == ["small.hnv"]


def test_a_second_argument_is_no_output(small_file: Path, tmp_path: Path) -> None:
    assert "OUT follows -o" in error_of(hnv("decode", small_file, "x.mp4", check=False), 2)


def test_defaults_of_an_encoder() -> None:
    deep = VideoHeader(64, 48, 3, Fraction(25), 12)
    assert choose("mkv", deep).pixel_format == "yuv444p12le"
    assert choose("webm", deep).pixel_format == "yuv420p10le"
    assert choose("mp4", deep).options == {"crf": "12", "preset": "fast"}
    assert choose("mp4", deep, ["-crf", "20"]).options == {"crf": "20", "preset": "fast"}
    other = choose("mkv", deep, ["-vcodec", "libx264", "-b:v", "1M"])
    assert other.options == {"b": "1M"} and other.pixel_format == "yuv444p10le"
    with pytest.raises(UsageError):
        choose("mp4", deep, ["crf", "20"])
    with pytest.raises(UsageError, match="`fps` 50"):
        choose("gif", VideoHeader(64, 48, 1, Fraction(60)))


@pytest.mark.parametrize("name", ["x.webm", "x.gif", "x.mp4", "x.mkv"])
def test_the_smallest_frames(name: str, tmp_path: Path) -> None:
    video = VideoHeader(1, 1, 0, Fraction(30000, 1001), 12)
    (tmp_path / "x.hnv").write_bytes(make_file(video, [random_segment(video, 3)]))
    run = hnv("decode", tmp_path / "x.hnv", "-o", tmp_path / name, check=False)
    if name == "x.webm":
        assert "libsvtav1 refuses 1x1" in error_of(run, 7)
    else:
        assert run.returncode == 0 and len(rgb_frames(tmp_path / name)) == 3


@pytest.mark.parametrize("size", [(3, 3), (1, 17), (9, 23), (5, 64)])
def test_small_frames_are_lossless_in_matroska(size: tuple[int, int], tmp_path: Path) -> None:
    """FFV1 by itself takes more slices than these frames have chroma samples."""
    video = replace(make_video(), width=size[0], height=size[1])
    (tmp_path / "x.hnv").write_bytes(make_file(video, [random_segment(video, 2)]))
    with Decoder(tmp_path / "x.hnv") as decoder:
        header = replace(decoder.video, frame_count=2)
        shown = constant(header.frame_rate, Display())
        expected = [planes for _, planes in decoder.frames(range(2))]
    with open_file_sink(str(tmp_path / "x.mkv"), "mkv", header, shown) as sink:
        for index, planes in enumerate(expected):
            sink.write(index, planes)
    with VideoSource(tmp_path / "x.mkv") as source:
        found = list(source.frames())
    assert [plane_bytes(planes) for planes in found] == [plane_bytes(planes) for planes in expected]


@pytest.mark.parametrize("size", [(65, 24), (16, 4096)])
def test_frames_with_which_an_encoder_hangs(size: tuple[int, int]) -> None:
    header = VideoHeader(*size, 1, Fraction(25))
    with pytest.raises(UsageError, match="libsvtav1 does not end with frames of"):
        choose("webm", header)
    assert choose("webm", header, ["-c:v", "libvpx-vp9"]).codec == "libvpx-vp9"
    with pytest.raises(UsageError, match="libsvtav1 does not end with frames of"):
        code("libsvtav1", header, [], {})


def test_a_code_that_an_encoder_lacks_is_left_out(tmp_path: Path) -> None:
    header = VideoHeader(32, 16, 1, Fraction(25), colour_primaries=23, frame_count=1)
    shown, path = constant(header.frame_rate, Display()), str(tmp_path / "x.mp4")
    words = ["-c:v", "libx265", "-preset", "ultrafast"]
    planes = tuple(np.zeros((side, 2 * side), np.uint8) for side in (16, 8, 8))
    with open_file_sink(path, "mp4", header, shown, words) as sink:
        assert sink.notes == ["libx265 does not take the colour codes (23, 2, 2)"]
        sink.write(0, planes)
    assert len(rgb_frames(tmp_path / "x.mp4")) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_frames_than_x265_holds_back(count: int, tmp_path: Path) -> None:
    header = VideoHeader(32, 16, 1, Fraction(25), frame_count=count)
    planes = tuple(np.zeros((side, 2 * side), np.uint8) for side in (16, 8, 8))
    for n in range(4):  # as what it takes for times is left to chance
        path = tmp_path / f"{n}.mp4"
        shown, words = constant(header.frame_rate, Display()), ["-c:v", "libx265"]
        with open_file_sink(str(path), "mp4", header, shown, words) as sink:
            for index in range(count):
                sink.write(index, planes)
        assert len(rgb_frames(path)) == count


@pytest.mark.parametrize(("chroma", "full_range"), [(0, False), (1, True), (3, False)])
def test_eleven_bits(chroma: int, full_range: bool, tmp_path: Path) -> None:
    """libav has no formats of 11 bits: frames are written with 12, of which the lowest is 0."""
    video = replace(make_video(chroma=chroma, depth=11), full_range=full_range)
    (tmp_path / "x.hnv").write_bytes(make_file(video, [random_segment(video, 2)]))
    with Decoder(tmp_path / "x.hnv") as decoder:
        header = replace(decoder.video, frame_count=2)
        expected = [planes for _, planes in decoder.frames(range(2))]
        rgb = decoder[0].numpy()
    shown = constant(header.frame_rate, Display())
    for name in ("mkv", "y4m", "png", "npy", "gif", "mp4"):
        path = tmp_path / ("x%d.png" if name == "png" else f"x.{name}")
        with open_file_sink(str(path), name, header, shown) as sink:
            is_told = [f".{name} holds samples of 11 bits in 12, one bit higher"]
            assert list(sink.notes)[:1] == is_told or name not in ("mkv", "y4m")
            for index, planes in enumerate(expected):
                sink.write(index, planes)
    for name in ("mkv", "y4m"):
        with VideoSource(tmp_path / f"x.{name}") as source:
            assert source.header.bit_depth == 12
            for planes, own in zip(source.frames(), expected, strict=True):
                for plane, narrow in zip(planes, own, strict=True):
                    assert np.array_equal(plane >> 1, narrow)
                    assert (plane & 1).any() == (full_range and (narrow >> 10).any())
    wide = tuple(plane << 1 | (plane >> 10 if full_range else 0) for plane in expected[0])
    made = RgbConverter(replace(header, bit_depth=12))(wide)
    assert np.array_equal(rgb, made.transpose(2, 0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_every_vector_in_every_format(name: str, tmp_path: Path) -> None:
    """All that the specification allows is written; only SVT-AV1 has limits, which we tell."""
    path = str(tmp_path / ("%d.png" if name == "png" else f"x.{name}"))
    speed = {"mp4": "ultrafast", "mov": "ultrafast", "webm": "13"}.get(name)
    refused = []
    for vector in sorted((ROOT / "spec/vectors/valid").glob("*.hnv")):
        with Decoder(vector, threads=1) as decoder:
            frames = list(range(min(2, len(decoder))))
            header = replace(decoder.video, frame_count=len(frames))
            shown = part(decoder.reader, decoder.times, frames)
            try:
                words = ["-preset", speed] if speed else []
                with open_file_sink(path, name, header, shown, words) as sink:
                    for index, planes in decoder.frames(frames):
                        sink.write(index, planes)
            except HnervError as error:
                refused.append(str(error))
    assert name == "webm" or refused == []
    assert all(error.startswith("libsvtav1 ") for error in refused) and len(refused) < 20
