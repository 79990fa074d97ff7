"""The Python API: a script for torchcodec's VideoDecoder, and what a server or a trainer asks."""

import io
import pickle
import random
import resource
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from running import EXCERPT
from torch.utils.data import DataLoader
from vectors import make_file, make_video, random_segment

from hnervcodec import Decoder, FrameDataset
from hnervcodec.bitstream import segment as segments
from hnervcodec.bitstream.headers import VideoHeader
from hnervcodec.decoding.segment_cache import CACHE_BYTES, SEGMENTS
from hnervcodec.errors import UsageError
from hnervcodec.media.colour import RgbConverter
from hnervcodec.media.frames import from_frame, pixel_format, to_frame
from hnervcodec.media.source import VideoSource
from hnervcodec.planes import plane_bytes


@pytest.fixture(scope="module")
def ten_segments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames of 22x14 in ten segments."""
    video = make_video()
    parts = [random_segment(video, 4, seed=n, first_frame=4 * n) for n in range(10)]
    path = tmp_path_factory.mktemp("ten") / "ten.hnv"
    path.write_bytes(make_file(video, parts))
    return path


def test_a_script_for_torchcodec(real_file: Path) -> None:
    decoder = Decoder(real_file)  # from torchcodec.decoders import VideoDecoder as Decoder
    assert len(decoder) == decoder.metadata.num_frames == 20
    first, last = decoder[0], decoder[-1]
    assert first.shape == (3, 47, 63) and first.dtype == torch.uint8
    assert decoder[10:20:5].shape == (2, 3, 47, 63) and decoder[5:5].shape == (0, 3, 47, 63)
    assert torch.equal(decoder.get_frame_at(19).data, last)
    frame = decoder.get_frame_at(3)
    assert frame.pts_seconds == pytest.approx(0.12) and frame.duration_seconds == 0.04
    batch = decoder.get_frames_at([7, 0, -1])
    assert torch.equal(batch.data[1], first) and torch.equal(batch.data[2], last)
    assert batch.pts_seconds.tolist() == [0.28, 0.0, 0.76]
    assert batch[0].index == 7 and [f.index for f in batch] == [7, 0, 19]
    assert torch.equal(decoder.get_frames_at(torch.tensor([7])).data[0], batch.data[0])
    ranged = decoder.get_frames_in_range(start=2, stop=9, step=3)
    assert ranged.index.tolist() == [2, 5, 8]
    assert decoder.get_frame_played_at(seconds=0.2).index == 5
    assert decoder.get_frame_played_at(0.2399).index == 5
    assert decoder.get_frames_played_at(seconds=[0.0, 0.76, 0.7999]).index.tolist() == [0, 19, 19]
    played = decoder.get_frames_played_in_range(start_seconds=0.1, stop_seconds=0.2)
    assert played.index.tolist() == [2, 3, 4]
    assert decoder.get_frames_played_in_range(0, 0.8).data.shape[0] == 20
    assert len(decoder.get_frames_played_in_range(0.1, 0.1)) == 0
    everything = decoder.get_all_frames()
    assert torch.equal(everything.data, torch.stack(list(decoder)))
    assert [len(b) for b in decoder.iter_batches(8)] == [8, 8, 4]
    facts = decoder.metadata
    assert (facts.width, facts.height, facts.average_fps) == (63, 47, 25.0)
    assert facts.duration_seconds == facts.end_stream_seconds == 0.8
    assert facts.bit_rate == pytest.approx(8 * real_file.stat().st_size / 0.8)
    for bad in (20, -21):
        with pytest.raises(IndexError):
            decoder[bad]
    for seconds in (-0.01, 0.8, float("nan"), float("inf")):
        with pytest.raises(IndexError):
            decoder.get_frame_played_at(seconds)
    for start, stop in ((0.5, 0.4), (-1, 0.2), (0.8, 0.8), (0, 0.81)):
        with pytest.raises(ValueError):
            decoder.get_frames_played_in_range(start, stop)
    with pytest.raises(IndexError):
        decoder.get_frames_in_range(0, 21)


def test_every_pts_plays_its_own_frame() -> None:
    for rate in (Fraction(30000, 1001), Fraction(24000, 1001), Fraction(7, 3), Fraction(1000, 7)):
        video = make_video()
        video = VideoHeader(video.width, video.height, 1, rate)
        with Decoder(make_file(video, [random_segment(video, 50)])) as decoder:
            times = [n / float(rate) for n in range(50)]
            own = [decoder._pts(n) for n in range(50)]
            for seconds in (times, own):
                found = [int(decoder._position(t) + Fraction(1, 1000)) for t in seconds]
                assert found == list(range(50))
            assert decoder.get_frames_played_at(own).index.tolist() == list(range(50))


def test_the_moment_before_a_frame_shows_the_one_before(real_file: Path) -> None:
    with Decoder(real_file) as decoder:
        assert decoder.get_frame_played_at(0.8 - 1e-7).index == 19
        assert decoder.get_frame_played_at(0.8 - 1e-7, interpolate=True).index == 19
        assert decoder.get_frame_played_at(0.2 - 1e-9).index == 4
        for index in (np.int64(3), torch.tensor(3)):
            assert decoder[index].shape == (3, 47, 63)  # type: ignore[index]
        with pytest.raises(IndexError):
            next(decoder.frames([-1]))


def test_interpolated_moments(real_file: Path) -> None:
    with Decoder(real_file) as decoder:
        frame = decoder.get_frame_played_at(0.22, interpolate=True)
        assert frame.pts_seconds == pytest.approx(0.22) and frame.index == 5
        _, planes = next(decoder.frames([Fraction(11, 2)]))
        assert np.array_equal(
            frame.data.permute(1, 2, 0).numpy(), RgbConverter(decoder.video)(planes)
        )
        assert not torch.equal(frame.data, decoder[5])
        assert torch.equal(decoder.get_frame_played_at(0.2, interpolate=True).data, decoder[5])
        assert torch.equal(decoder.get_frame_played_at(0.79, interpolate=True).data, decoder[19])


def test_order_and_dtype(real_file: Path) -> None:
    plain = Decoder(real_file)[4]
    with Decoder(real_file, dimension_order="NHWC", output_dtype=torch.float32) as decoder:
        assert torch.equal((decoder[4] * 255).round().byte(), plain.permute(1, 2, 0))
        assert float(decoder[4].max()) <= 1
    for options in ({"dimension_order": "CHW"}, {"output_dtype": torch.int16}, {"path": "x"}):
        with pytest.raises(UsageError):
            Decoder(real_file, **options)[0]


def rgb_cases() -> list[tuple[int, int, bool, int, int, int]]:
    plain = product((0, 1, 2, 3), (8, 10), (False, True), (1, 6, 9), (255,), (64,))
    sited = product((1,), (8,), (False,), (2,), (0, 1, 2), (64,))
    odd = product((1, 2), (8,), (False,), (1,), (255,), (63,))
    return [*plain, *sited, *odd]


def test_rgb_is_ffmpegs(ffmpeg: str) -> None:
    with VideoSource(EXCERPT, skip=30, limit=1) as source:
        base = next(source.frames())
        real = to_frame(source.header, base)
    for chroma, depth, full, matrix, siting, width in rgb_cases():
        header = VideoHeader(width, 34, chroma, Fraction(25), depth, siting, full, 2, 2, matrix)
        name = pixel_format(chroma, depth)
        planes = from_frame(real.reformat(width=width, height=34, format=name), header)
        scale = (
            f"scale=in_color_matrix={ {1: 'bt709', 9: 'bt2020'}.get(matrix, 'bt601') }"
            f":in_range={'full' if full else 'limited'}:out_range=full"
            ":flags=bicubic+accurate_rnd+full_chroma_int"
            + {
                255: "",
                0: ":in_chroma_loc=left",
                1: ":in_chroma_loc=center",
                2: ":in_chroma_loc=topleft",
            }[siting]
        )
        command = [
            ffmpeg,
            "-v",
            "error",
            "-f",
            "rawvideo",
            "-pix_fmt",
            name,
            "-s",
            f"{width}x34",
            "-i",
            "-",
            "-vf",
            scale,
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-",
        ]
        made = subprocess.run(command, input=plane_bytes(planes), capture_output=True, check=True)
        theirs = np.frombuffer(made.stdout, np.uint8).reshape(34, width, 3).astype(int)
        difference = np.abs(RgbConverter(header)(planes) - theirs)
        assert difference.max() <= 1, (name, full, matrix, siting, width)


def resident() -> int:
    """Bytes of memory that this process has now."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@pytest.mark.slow
def test_random_access_loads_each_segment_once_at_most(
    ten_segments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Decoder(ten_segments) as decoder:
        whole = decoder.get_all_frames().data
    loads: list[int] = []
    read = segments.read

    def counted(*arguments: Any) -> segments.QuantizedSegment:
        loads.append(1)
        return read(*arguments)

    monkeypatch.setattr(segments, "read", counted)
    shuffled = random.Random(0)
    SEGMENTS.clear()
    with Decoder(ten_segments, cache_bytes=0) as decoder:
        for count in range(1, 1001):
            n = shuffled.randrange(40)
            assert torch.equal(decoder[n], whole[n])
            assert len(loads) <= count and len(SEGMENTS) == 1
            if count == 200:
                before = resident()
    assert resident() < before + (16 << 20)
    loads.clear()
    SEGMENTS.clear()
    for _ in range(2):  # a file that is opened again is the same file
        with Decoder(ten_segments, cache_bytes=CACHE_BYTES) as decoder:
            for _ in range(200):
                decoder.get_planes_at(shuffled.randrange(40))
    assert len(loads) == 10


@pytest.mark.slow
def test_pickle_threads_and_workers(ten_segments: Path) -> None:
    decoder = Decoder(ten_segments, dimension_order="NHWC")
    whole = decoder.get_all_frames().data
    copy = pickle.loads(pickle.dumps(decoder))
    assert torch.equal(copy.get_all_frames().data, whole)
    orders = [random.Random(n).sample(range(40), 40) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for order, found in zip(orders, pool.map(decoder.get_frames_at, orders), strict=True):
            assert torch.equal(found.data, whole[order])
    dataset = FrameDataset([ten_segments, ten_segments], dimension_order="NHWC")
    assert len(dataset) == 80 and torch.equal(dataset[-1], whole[39])
    dataset[0]  # what workers inherit is in use already
    for method in ("fork", "spawn"):
        loader = DataLoader(dataset, 16, num_workers=2, multiprocessing_context=method)
        assert torch.equal(torch.cat(list(loader)), torch.cat([whole, whole])), method


class RangeHandler(SimpleHTTPRequestHandler):
    """SimpleHTTPRequestHandler knows no ranges."""

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = data[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *arguments: Any) -> None:
        pass


class HttpFile(io.RawIOBase):
    """A file behind HTTP that reads what it is asked for, as fsspec's do."""

    def __init__(self, url: str, size: int):
        self.url, self.size, self.place, self.fetched = url, size, 0, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def read(self, count: int = -1) -> bytes:
        stop = self.size if count < 0 else min(self.place + count, self.size)
        if stop <= self.place:
            return b""
        wanted = Request(self.url, headers={"Range": f"bytes={self.place}-{stop - 1}"})
        with urlopen(wanted, timeout=10) as response:
            data: bytes = response.read()
        self.place += len(data)
        self.fetched += len(data)
        return data


def test_one_frame_over_http_takes_its_segment_only(ten_segments: Path) -> None:
    handler = partial(RangeHandler, directory=str(ten_segments.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/ten.hnv"
        file = HttpFile(url, ten_segments.stat().st_size)
        with Decoder(file) as decoder:  # type: ignore[arg-type]
            frame = decoder[22]
        server.shutdown()
    with Decoder(ten_segments) as decoder:
        assert torch.equal(decoder[22], frame)
    assert file.fetched < 0.15 * file.size
