"""Firefox without a window, spoken to in its own protocol (Marionette) over a local socket."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

FIREFOX = shutil.which("firefox") or shutil.which("firefox-esr")
STARTS_WITHIN = 60  # seconds


class Firefox:
    """One page of a browser, with a new profile in `folder`."""

    def __init__(self, folder: Path):
        assert FIREFOX
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        folder.mkdir(exist_ok=True)
        preferences = {"marionette.port": port, "media.autoplay.default": 0}
        lines = [f"user_pref({json.dumps(k)}, {v});\n" for k, v in preferences.items()]
        (folder / "user.js").write_text("".join(lines))
        self._process = subprocess.Popen(
            [FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(folder)},
            start_new_session=True,
        )
        self._number, self._unread = 0, b""
        self._socket = self._connected(port)
        self._message()  # says who it is
        self._call("WebDriver:NewSession")
        self._call("WebDriver:SetTimeouts", script=60_000)

    def _connected(self, port: int) -> socket.socket:
        end = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port))
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    self.__exit__()
                    raise
                time.sleep(0.1)

    def __enter__(self) -> Firefox:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _message(self) -> Any:
        """The next one: its length in digits, a colon, and JSON."""
        while True:
            length, colon, rest = self._unread.partition(b":")
            if colon and len(rest) >= int(length):
                self._unread = rest[int(length) :]
                return json.loads(rest[: int(length)])
            data = self._socket.recv(1 << 20)
            assert data, "the browser ended"
            self._unread += data

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = json.dumps([0, self._number, method, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(message), message))
        _, number, error, result = self._message()
        assert number == self._number and not error, (method, error)
        return result

    def open(self, address: str) -> None:
        self._call("WebDriver:Navigate", url=address)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        script = f"return (async () => ({expression}))()"
        return self._call("WebDriver:ExecuteScript", script=script, args=[], sandbox=None)["value"]

    def wait(self, expression: str, seconds: float = 20) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(expression)):
            assert time.monotonic() < end, (expression, self.run("document.body?.innerText"))
            time.sleep(0.05)
        return value
