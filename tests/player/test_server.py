"""`hnv serve` plays files to this machine's browser, and nothing else to nobody else."""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pytest
from running import Args, error_of, heed_interrupts, hnv
from vectors import make_file, make_video, random_segment

from hnervcodec.player.server import PlayerServer


@cache
def ten_segments() -> bytes:
    """Of 40 frames each."""
    video = make_video()
    part = random_segment(video, 40)
    return make_file(video, [replace(part, first_frame=40 * n) for n in range(10)])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[PlayerServer]:
    """A folder with a file in a folder, beside a secret to which a link leads."""
    (tmp_path / "secret.hnv").write_bytes(b"secret")
    inside = tmp_path / "in" / "sub folder"
    inside.mkdir(parents=True)
    (inside / "tén.hnv").write_bytes(ten_segments())
    (inside / "link.hnv").symlink_to(tmp_path / "secret.hnv")
    (inside / "other.txt").write_bytes(b"other")
    with PlayerServer(tmp_path / "in") as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(
    server: PlayerServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=named)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, dict(answer.headers)


FILE = quote("/files/sub folder/tén.hnv")


def test_files_are_listed_and_read_by_ranges(served: PlayerServer) -> None:
    status, body, headers = ask(served, "/")
    assert status == 200 and headers["Cross-Origin-Resource-Policy"] == "same-origin"
    links = re.findall(r'<a href="([^"]*)">', body.decode())
    assert links == [quote("/play/sub folder/tén.hnv")]
    assert ask(served, links[0])[0] == 200
    data = ten_segments()
    assert ask(served, FILE)[:2] == (200, data)
    status, body, headers = ask(served, FILE, Range="bytes=100-199")
    assert (status, body) == (206, data[100:200])
    assert headers["Content-Range"] == f"bytes 100-199/{len(data)}"
    assert ask(served, FILE, Range=f"bytes={len(data) - 5}-")[1] == data[-5:]
    assert ask(served, FILE, Range=f"bytes={len(data)}-")[0] == 416
    status, body, headers = ask(served, FILE, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(data)))
    assert ask(served, FILE, "HEAD", Range="bytes=0-9")[0] == 200  # ranges are for GET
    assert ask(served, "/player/hnv.js")[0] == 200


def test_nothing_else_is_served(served: PlayerServer, tmp_path: Path) -> None:
    for path in (
        "/files/../secret.hnv",
        "/files/%2e%2e/secret.hnv",
        "/files//etc/passwd",
        f"/files/{tmp_path}/secret.hnv",
        "/files/sub%20folder/link.hnv",
        "/files/sub%20folder/other.txt",
        "/files/sub%20folder",
        "/files/%00.hnv",
        "/player/../server.py",
        "/player/page.py",
        "/player/%2e%2e/api.py",
        "/play/nothing.hnv",
        f"/files/{'a' * 300}.hnv",
        "/favicon.ico",
    ):
        assert ask(served, path)[:2] == (404, b""), path
    elsewhere = f"http://example.org{FILE}"  # as to a proxy
    assert ask(served, elsewhere, Host=f"127.0.0.1:{served.server_port}")[0] == 404
    with PlayerServer(tmp_path / "in/sub folder/tén.hnv") as one:
        assert one.file_of("tén.hnv") and not one.file_of("link.hnv")
    with PlayerServer(tmp_path / "in/sub folder/other.txt") as one:  # which somebody named
        assert one.file_of("other.txt") and not one.file_of("tén.hnv")


def test_a_file_that_becomes_shorter_ends_the_answer(served: PlayerServer) -> None:
    path = served.root / "large.hnv"
    path.write_bytes(bytes(50_000_000))
    connection = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=10)
    connection.request("GET", "/files/large.hnv")
    answer = connection.getresponse()
    os.truncate(path, 1000)
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
    path.unlink()
    assert ask(served, "/files/large.hnv")[0] == 404


def test_nobody_else_is_served(served: PlayerServer) -> None:
    port = served.server_port
    for headers in (
        {"Host": "example.org"},
        {"Host": f"example.org:{port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        assert ask(served, FILE, **headers)[:2] == (403, b""), headers
    assert ask(served, FILE, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "NONSENSE"):
        assert ask(served, FILE, method)[:2] == (405, b""), method


def test_command_says_where_and_ends_quietly(served: PlayerServer, small_file: Path) -> None:
    taken = hnv("serve", small_file, "--port", served.server_port, check=False)
    assert "--port" in error_of(taken, 2)
    error_of(hnv("serve", small_file.parent / "nothing", check=False), 6)
    command: Args = [sys.executable, "-m", "hnervcodec", "serve", small_file, "--port", "0"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        assert process.stderr
        address = process.stderr.readline()
        found = re.match(r"http://127\.0\.0\.1:(\d+)/ ", address)
        assert found
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().headers["Location"] == "/play/small.hnv"
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0 and process.stderr.read() == ""
    for _ in range(3):  # at once
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
        ) as process:
            assert process.stderr and process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0 and process.stderr.read() == ""
