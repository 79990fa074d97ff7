"""The player in another browser, of another engine: what differs there is the products of bytes,
the pictures' way to the screen and the modules' way to the workers."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from firefox import FIREFOX, Firefox
from running import ROOT
from test_page import READY

from hnervcodec.player import page, server

VECTORS = ROOT / "spec/vectors"
AT_A_TIME = 100  # files
DECODED = """(async () => {
  const { HnvDecoder, HnvError } = await import("/player/hnv.js");
  const results = [];
  for (const name of NAMES) {
    try {
      const file = new Uint8Array(await (await fetch("/files/" + name)).arrayBuffer());
      const decoder = await HnvDecoder.open(file, { check: true });
      for (let n = 0; n < decoder.frameCount; n++) await decoder.frameBytes(n); // and its checksum
      results.push(decoder.frameCount);
      decoder.close();
    } catch (error) {
      results.push(error instanceof HnvError ? error.kind : `${error}`);
    }
  }
  return results;
})()"""


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    if not FIREFOX:
        pytest.skip("firefox is not installed")
    with Firefox(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a server of the vectors."""
    with server.PlayerServer(VECTORS) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        yield served.address
        served.shutdown()


def test_a_page_plays_to_the_end(firefox: Firefox, tmp_path: Path) -> None:
    path = tmp_path / "real.html"
    path.write_text(page.alone((VECTORS / "valid/real-bunny.hnv").read_bytes(), "real"))
    firefox.open(f"file://{path}")
    firefox.wait(READY)
    firefox.run("hnvPlayer.play()")
    firefox.wait("hnvPlayer.failure || hnvPlayer.ended")
    failure, shown, dropped, verified = firefox.run(
        "[hnvPlayer.failure, hnvPlayer.statistics.shown, hnvPlayer.statistics.dropped,"
        " hnvPlayer.frames.verified.reduce((a, b) => a + b)]"
    )
    assert not failure and shown + dropped == 10 and shown > 3 and verified >= shown


@pytest.mark.slow
def test_every_vector(firefox: Firefox, address: str) -> None:
    firefox.open(f"{address}play/valid/real-bunny.hnv#f=4")
    firefox.wait(READY)
    assert firefox.run("[hnvPlayer.failure ?? '', hnvPlayer.shown]") == ["", 4]
    files = sorted(VECTORS.glob("*/*.hnv"))
    for start in range(0, len(files), AT_A_TIME):
        some = files[start : start + AT_A_TIME]
        names = json.dumps([path.relative_to(VECTORS).as_posix() for path in some])
        for path, result in zip(some, firefox.run(DECODED.replace("NAMES", names)), strict=True):
            facts = json.loads(path.with_suffix(".json").read_text())
            assert result == (facts.get("error") or len(facts["md5"])), path


def test_a_faulty_file_is_refused(firefox: Firefox, address: str) -> None:
    firefox.open(f"{address}play/faulty/segm-frame_crc.hnv")
    assert firefox.wait("globalThis.hnvPlayer?.failure").startswith("damaged: ")
    assert firefox.run("hnvPlayer.shown ?? -1") < 1
