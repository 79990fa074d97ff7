"""The part of tools/check_arm that runs on both processors: one writes the networks of all valid
vectors, the other computes their frames by each kernel it has."""

from __future__ import annotations

import os
import pickle
import platform
import sys
import types
from pathlib import Path

import numpy as np


def write(path: Path) -> None:
    """(name, video header, segment) of every segment of the valid vectors, to `path`."""
    from hnervcodec.bitstream import segment
    from hnervcodec.decoding.decoder import Decoder

    vectors = Path(__file__).parents[1] / "spec/vectors/valid"
    found = []
    for vector in sorted(vectors.glob("*.hnv")):
        with Decoder(vector.read_bytes()) as decoder:
            reader = decoder.reader
            for entry in reader.index:
                payload = reader.segment_payload(entry)
                part = segment.read(payload, reader.video, reader.level)
                found.append((vector.stem, reader.video, part))
    path.write_bytes(pickle.dumps(found))


def check(path: Path) -> None:
    """Fails unless every frame of `path` has its checksum, whichever kernel computes it, and RGB is
    what its known-answer test says."""
    sys.modules["constriction"] = types.ModuleType("constriction")  # not needed to compute frames
    from hnervcodec.bitstream.fields import crc32
    from hnervcodec.decoding import rgb
    from hnervcodec.planes import plane_bytes, unpack
    from hnervcodec.synthesis import native, native_library
    from hnervcodec.system import kernels

    segments = pickle.loads(path.read_bytes())
    for kernel in native_library.candidates():
        if lacking := kernels.lacking(kernel):
            print(f"{kernel.name}: this processor lacks {', '.join(lacking)}")
            continue
        os.environ[native_library.KERNEL_VARIABLE] = kernel.name
        native.choice.cache_clear()
        chosen = native.choice()
        if chosen.library is None:
            sys.exit(f"{kernel.name}: {chosen}")
        frames = 0
        for name, video, segment in segments:
            for workers in (1, 2):
                network = native.Network(chosen.library, segment, video.bit_depth, workers)
                count = len(segment.frame_crcs)
                samples = network.run(segment.embeddings_at(range(count)))
                crcs = [
                    crc32(plane_bytes(unpack(s, video.chroma_format, video.width, video.height)))
                    for s in samples
                ]
                if not np.array_equal(crcs, segment.frame_crcs):
                    sys.exit(f"{kernel.name}: {name} has other samples")
                frames += count
        print(
            f"{platform.machine()} {kernel.name}: {len(segments)} segments, {frames} frames by 1 "
            "and 2 threads, every checksum right"
        )
    if rgb.library() is None:
        sys.exit("RGB: no kernel is exact")
    print(f"{platform.machine()}: RGB is exact")


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
