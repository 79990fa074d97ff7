"""Chromium without a window, spoken to through a pipe in its own protocol (CDP)."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")


class Browser:
    """One page of a browser, with a profile in `folder`.

    `requests`: the addresses that it asked for. `errors`: what its scripts did not catch.
    """

    def __init__(self, folder: Path, *arguments: str):
        assert CHROMIUM
        ours, self._to = os.pipe()
        self._from, theirs = os.pipe()
        command = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--remote-debugging-pipe",
            "--autoplay-policy=no-user-gesture-required",
            f"--user-data-dir={folder}",
            *arguments,
            "about:blank",
        ]
        # The protocol's pipes are 3 and 4.
        high = [fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (ours, theirs)]
        self._process = subprocess.Popen(
            command,
            pass_fds=(3, 4),
            preexec_fn=lambda: [os.dup2(pipe, n) for n, pipe in enumerate(high, 3)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for pipe in (ours, theirs, *high):
            os.close(pipe)
        self._unread, self._number, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = next(
            t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page"
        )["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._to)
        os.close(self._from)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(answer["params"]["exceptionDetails"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            data = os.read(self._from, 1 << 20)
            assert data, "the browser ended"
            self._unread += data
        message, self._unread = self._unread.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(message)
        return answer

    def open(self, address: str) -> None:
        self._call("Page.navigate", url=address)

    @contextmanager
    def before_pages(self, script: str) -> Iterator[None]:
        """Has a script run in pages before those of their own."""
        added = self._call("Page.addScriptToEvaluateOnNewDocument", source=script)
        try:
            yield
        finally:
            self._call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])

    def look(self, width: int, height: int, dark: bool = False) -> None:
        """The size of the page in pixels, and which colours it is asked for."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        answer = self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 20) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(expression)):
            if time.monotonic() > end:
                text = self.run("document.body?.innerText")
                raise AssertionError(f"never {expression}: {self.errors}, {text!r}")
            time.sleep(0.05)
        return value

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if kind == "keyDown" and len(key) == 1 else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=key, **text)

    def picture(self) -> bytes:
        """A JPEG of the page."""
        taken = self._call("Page.captureScreenshot", format="jpeg", quality=85)
        return base64.b64decode(taken["data"])
