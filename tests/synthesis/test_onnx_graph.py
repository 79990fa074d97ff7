"""The ONNX graph in onnxruntime: the bytes of `hnv decode`."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from running import error_of, hnv
from vectors import make_video, random_segment

from hnervcodec import Decoder
from hnervcodec.planes import Planes, unpack
from hnervcodec.synthesis.network import Synthesis
from hnervcodec.synthesis.onnx_graph import to_onnx


def run(model: bytes, embedding: np.ndarray) -> list[Planes]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"embedding": embedding})
    return list(zip(*outputs, strict=True))


def equal(a: Planes, b: Planes) -> bool:
    return all((x == y).all() and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize(("chroma", "depth"), [(0, 8), (1, 8), (2, 10), (3, 12)])
def test_random_networks(chroma: int, depth: int, integers: bool) -> None:
    video = make_video(21, 13, chroma=chroma, depth=depth)
    segment = random_segment(video, 3, seed=chroma, weight=127)
    packed = Synthesis(segment, video).packed(range(3))
    made = run(to_onnx(segment, video, integers).SerializeToString(), segment.embedding)
    for planes, samples in zip(made, packed, strict=True):
        assert equal(planes, unpack(samples, chroma, 21, 13))


def test_command(real_file: Path, tmp_path: Path) -> None:
    for options in ((), ("--integers",)):
        path = tmp_path / "second.onnx"
        said = hnv("export", real_file, "-o", path, "--segment", 1, "-y", *options).stderr.decode()
        assert "frames 10-19" in said
        embeddings = np.load(tmp_path / "second.npy")
        assert embeddings.dtype == np.uint8 and len(embeddings) == 10
        with Decoder(real_file) as decoder:
            for n, planes in enumerate(run(path.read_bytes(), embeddings), 10):
                assert equal(planes, decoder.get_planes_at(n))
    refused = hnv("export", real_file, "-o", path, check=False)
    assert "exists" in error_of(refused, 2)
    refused = hnv("export", real_file, "-o", tmp_path / "x.onnx", "--segment", 2, check=False)
    assert "segment" in error_of(refused, 2)
    error_of(hnv("export", real_file, "-o", tmp_path / "x.pt", check=False), 2)
    assert not list(tmp_path.glob("x*"))
