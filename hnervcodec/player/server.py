"""A server of one's own files to one's own browser: lists `.hnv` files and plays them by ranges."""

from __future__ import annotations

import html
import os
import re
import stat
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from hnervcodec.bitstream.reader import Reader
from hnervcodec.errors import HnervError, SourceError, UsageError
from hnervcodec.player import page

HOST = "127.0.0.1"
MAX_LISTED = 10_000
CHUNK = 1 << 18  # bytes that are sent at a time
HTTP_PORT = 80  # which browsers do not name
TYPES = {".js": "text/javascript; charset=utf-8", ".wasm": "application/wasm"}
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
# Of every answer: no other page may use it, nor guess what it is.
HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class PlayerServer(ThreadingHTTPServer):
    """Serves one `.hnv` file or those of a folder, to this machine only.

    `address` is where it is. UsageError if the port is in use, SourceError if there is no such file
    or folder.
    """

    daemon_threads = True

    def __init__(self, path: str | Path, port: int = 0):
        """path: of a file or a folder. port: 0 for any that is free."""
        self.path = Path(os.path.realpath(path))
        if not self.path.exists():
            raise SourceError(f"cannot open {path}: no such file or folder")
        self.root = self.path if self.path.is_dir() else self.path.parent
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(f"port {port}: {reason}: choose another by `port`") from error
        self.address = f"http://{HOST}:{self.server_port}/"
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        if self.server_port == HTTP_PORT:
            self.hosts |= {HOST, "localhost"}

    def files(self) -> list[Path]:
        """The `.hnv` files, by their names."""
        if not self.path.is_dir():
            return [self.path]
        found = (
            Path(folder, name)
            for folder, _, names in os.walk(self.root)
            for name in names
            if name.endswith(".hnv")
        )
        return sorted(islice(found, MAX_LISTED))

    def file_of(self, name: str) -> Path | None:
        """The served file of that name relative to the root; None for whatever else is on the disk,
        also by way of a link, and for names that no file can have."""
        if "\0" in name:
            return None
        path = Path(os.path.realpath(self.root / name))
        if path != self.path:
            listed = self.path.is_dir() and path.is_relative_to(self.root)
            if not listed or not name.endswith(".hnv"):
                return None
        return path if os.path.isfile(path) else None

    def handle_error(self, *_: object) -> None:
        """Browsers close connections as they like."""


class _Handler(BaseHTTPRequestHandler):
    server: PlayerServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        if not self._is_from_here():
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        path = unquote(self.path.partition("?")[0], errors="surrogateescape")
        area, _, name = path.removeprefix("/").partition("/")
        if path == "/":
            self._start()
        elif area == "play" and self.server.file_of(name):
            title = Path(name).name
            self._text(page.served("/files/" + _quoted(name), _shown(title)))
        elif area == "files" and (file := self.server.file_of(name)):
            self._file(file)
        elif area == "player" and name in _SERVED_PARTS:
            self._whole((page.FOLDER / name).read_bytes(), TYPES[Path(name).suffix])
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET

    def _is_from_here(self) -> bool:
        """Whether a page of this server, or nobody's, asks: names of others may lead here, too."""
        origin = self.headers.get("Origin")
        return (
            self.headers.get("Host") in self.server.hosts
            and (origin is None or origin.removeprefix("http://") in self.server.hosts)
            and self.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
        )

    def _start(self) -> None:
        """A list of the files, or the one that there is."""
        server = self.server
        if not server.path.is_dir():
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", "/play/" + _quoted(server.path.name))
            self._end_headers(0)
            return
        rows = "".join(_row(path, server.root) for path in server.files())
        body = f"<table>{rows}</table>" if rows else "<p>No .hnv file is here.</p>"
        self._text(page.listing(_shown(server.root.name or "/"), body))

    def _file(self, path: Path) -> None:
        try:
            opened = os.open(path, os.O_RDONLY)
        except OSError:  # it was there a moment ago, or is not ours to read
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with open(opened, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            first, last = 0, size - 1
            asked = _RANGE.fullmatch(self.headers.get("Range", ""))
            if asked and self.command == "GET":
                first, last = int(asked[1]), min(int(asked[2] or last), last)
                if first > last:
                    self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                    self.send_header("Content-Range", f"bytes */{size}")
                    self._end_headers(0)
                    return
                self.send_response(HTTPStatus.PARTIAL_CONTENT)
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            else:
                self.send_response(HTTPStatus.OK)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Type", "application/octet-stream")
            self._end_headers(last + 1 - first)
            if self.command == "GET":
                self._send(file, first, last + 1 - first)

    def _send(self, file: BinaryIO, offset: int, size: int) -> None:
        file.seek(offset)
        while size and (data := file.read(min(size, CHUNK))):
            self.wfile.write(data)
            size -= len(data)
        if size:  # the file is shorter now: the other side must not wait for the rest
            self.close_connection = True

    def _text(self, text: str) -> None:
        self._whole(text.encode(), "text/html; charset=utf-8")

    def _whole(self, data: bytes, content_type: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self._end_headers(len(data))
        if self.command == "GET":
            self.wfile.write(data)

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self._end_headers(0)

    def send_error(self, code: int, *_: object, **__: object) -> None:
        """Also of what http.server refuses itself: other methods, and what it cannot read."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else code
        self.send_response(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.close_connection = True
        self._end_headers(0)

    def _end_headers(self, length: int) -> None:
        self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def version_string(self) -> str:
        return "hnv"

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


_SERVED_PARTS = {path.name for path in page.FOLDER.iterdir() if path.suffix in TYPES}


def _quoted(name: str) -> str:
    return quote(name, errors="surrogateescape")


def _shown(name: str) -> str:
    """A file's name as text, also one that is none."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _row(path: Path, root: Path) -> str:
    """A file's row in the list: what it is, as far as its header and its index tell."""
    try:
        inside = Path(os.path.realpath(path)).is_relative_to(root)
        status = os.stat(path)
        if not inside or not stat.S_ISREG(status.st_mode):
            return ""
        with open(path, "rb") as file:
            video = Reader(file).video
        seconds = float(video.frame_count / video.frame_rate)
        facts = f"{video.width} &times; {video.height}", f"{seconds:.2f} s"
    except HnervError as error:
        facts = html.escape(str(error)), ""
    except OSError:
        return ""
    name = str(path.relative_to(root))
    link = f'<a href="/play/{_quoted(name)}">{html.escape(_shown(name))}</a>'
    cells = (link, *facts, f"{status.st_size:,} bytes")
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
