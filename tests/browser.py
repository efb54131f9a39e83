# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Chromium without a window, over its DevTools pipe: as little of it as tests of a page need."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

#: What Debian and others call it.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: No window, no sandbox (tests run as root), nothing that goes out by itself.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)

BOUND = 60.0  # seconds: generous, only to end a test that would hang


def find() -> str | None:
    """The program, None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One browser with one page.

    Attributes:
        console: what the page said there: errors, refusals of its own policy among them.
        requests: the addresses that it asked for.
    """

    def __init__(self, folder: Path, program: str) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        self._number = 0
        self._rest = b""
        self._events: list[Json] = []
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()
        # the pipe is file descriptors 3 and 4 of the browser
        command = 'exec "$0" "$@" 3<&%d 4>&%d' % (to_read, to_write)  # noqa: UP031 - a shell's own braces
        self._process = subprocess.Popen(
            [
                "/bin/bash",
                "-c",
                command,
                program,
                *FLAGS,
                f"--user-data-dir={folder / 'profile'}",
                "about:blank",
            ],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "HOME": str(folder)},
        )
        os.close(to_read)
        os.close(to_write)
        self._session: str | None = None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._out)
        os.close(self._in)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    # --- the pipe: JSON messages, each ended by a NUL ---

    def call(self, method: str, **params: Any) -> Json:
        """One command of the protocol, and its result."""
        self._number += 1
        number = self._number
        message: Json = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def wait(self, method: str) -> None:
        """Until an event came that nobody has waited for yet."""
        while not any(one["method"] == method for one in self._events):
            self._message()
        self._events = [one for one in self._events if one["method"] != method]

    def _message(self) -> Json:
        deadline = time.monotonic() + BOUND
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            got = os.read(self._in, 1 << 20)
            if not got:
                raise RuntimeError("the browser ended")
            self._rest += got
        line, _nul, self._rest = self._rest.partition(b"\0")
        message: Json = json.loads(line)
        if "method" in message:
            self._note(message)
        return message

    def _note(self, event: Json) -> None:
        method, params = event["method"], event.get("params", {})
        self._events.append(event)
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded":
            self.console.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.console.append(json.dumps(params["args"]))

    # --- a person ---

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a file, and wait until it is there."""
        self.wait_none("Page.loadEventFired")
        self.call("Page.navigate", url=page.as_uri() + fragment)
        self.wait("Page.loadEventFired")

    def wait_none(self, method: str) -> None:
        """Forget events of that kind that came already."""
        self._events = [one for one in self._events if one["method"] != method]

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")

    def size(self, width: int, height: int) -> None:
        """The window's."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefers(self, scheme: str, media: str = "") -> None:
        """What the system says: light or dark; and a medium such as print."""
        self.call(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ],
        )

    def press(self, *keys: str) -> None:
        """Keys, by the names that events have; a text of one character is typed."""
        codes = {
            "Tab": 9,
            "Enter": 13,
            "Escape": 27,
            "End": 35,
            "Home": 36,
            "ArrowLeft": 37,
            "ArrowRight": 39,
            " ": 32,
        }
        for key in keys:
            typed = {"Enter": "\r"}.get(key, key if len(key) == 1 else None)
            about: Json = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
            self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": typed} if typed else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """A screenshot as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def pdf(self, path: Path) -> None:
        """What would be printed."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))


def texts(browser: Browser, selector: str) -> Sequence[str]:
    """What visible elements say."""
    expression = (
        f"[...document.querySelectorAll({json.dumps(selector)})].filter(one => one.checkVisibility())"
        ".map(one => one.textContent)"
    )
    return list(browser.js(expression))
