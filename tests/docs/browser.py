# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, spoken to by its DevTools protocol.

Everything the page says is kept: errors on the console, and the address of each
request.
"""

import asyncio
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from tornado.websocket import websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--hide-scrollbars --remote-debugging-port=0 --remote-allow-origins=*"
).split()

# Two frames later the new shape is laid out, and sidebars have begun to slide. Some
# animations never end, so the wait does.
_SHOWN = """(async () => {
  for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
  const ends = a => a.effect.getComputedTiming().endTime < Infinity;
  const moving = document.getAnimations()
    .filter(a => a.playState === "running" && ends(a))
    .map(a => a.finished.catch(() => 0));
  const limit = new Promise(done => setTimeout(done, 500));
  await Promise.race([Promise.all(moving), limit]);
})()"""


class Browser:
    """One tab; use it as an asynchronous context."""

    def __init__(self):
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._numbers = itertools.count(1)
        self._loaded = asyncio.Event()
        self._answers: dict[int, asyncio.Future] = {}

    async def __aenter__(self):
        assert PROGRAM is not None
        self._profile = tempfile.mkdtemp()
        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = await self._port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            tabs = json.load(answer)
        address = next(t for t in tabs if t["type"] == "page")["webSocketDebuggerUrl"]
        self._socket = await websocket_connect(address, max_message_size=1 << 28)
        self._listening = asyncio.ensure_future(self._listen())
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")
        return self

    async def __aexit__(self, *_):
        self._socket.close()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    async def _port(self):
        file = Path(self._profile) / "DevToolsActivePort"
        for _ in range(600):
            if file.exists() and (text := file.read_text()):
                return text.split()[0]
            await asyncio.sleep(0.1)
        raise TimeoutError("chromium did not start within a minute")

    async def _listen(self):
        while (text := await self._socket.read_message()) is not None:
            message = json.loads(text)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
                continue
            method, told = message["method"], message["params"]
            if method == "Page.loadEventFired":
                self._loaded.set()
            elif method == "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            elif method == "Runtime.exceptionThrown":
                self.errors.append(told["exceptionDetails"]["text"])
            elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
                self.errors.append(told["entry"]["text"])

    async def call(self, method, **params):
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_event_loop().create_future()
        request = {"id": number, "method": method, "params": params}
        await self._socket.write_message(json.dumps(request))
        message = await asyncio.wait_for(answer, 60)
        assert "error" not in message, message
        return message["result"]

    async def shape(self, width=1360, dark=False):
        """Give the window a width and a scheme, and wait until both are shown."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.run(_SHOWN)

    async def open(self, address):
        """Show a page, and wait until it has loaded and its formulas are set."""
        self.errors.clear()
        self.requests.clear()
        self._loaded.clear()
        await self.call("Page.navigate", url=address)
        await asyncio.wait_for(self._loaded.wait(), 60)
        await self.run("window.MathJax?.startup?.promise ?? 0")

    async def run(self, script):
        """Return what a script in the page comes to."""
        result = await self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in result, (script, result)
        return result["result"].get("value")


def hosts(requests):
    """Return the hosts that requests went to; data and blobs have none."""
    return {m[1] for url in requests if (m := re.match(r"https?://([^/:]+)", url))}
