"""A headless Chromium of the machine's, told what to do over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pyte

NAMES = ("chromium", "chromium-browser", "google-chrome")
DEADLINE_S = 120.0
COLUMNS, ROWS = 120, 36
LOOK_S = 0.05
# No GPU and, where root runs the tests, no sandbox; and nothing that a browser asks its maker for.
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--hide-scrollbars", "--no-proxy-server",
)  # fmt: skip


def program() -> str | None:
    """The Chromium of this machine, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One tab: the addresses it has `requested`, what its websockets `received`, and its `complaints`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())
        self.requested: list[str] = []
        self.received = b""
        self._fed = 0  # of it, to the terminal as it should be
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self.complaints: list[str] = []

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
                continue
            match told["method"]:
                case "Network.requestWillBeSent":
                    self.requested.append(told["params"]["request"]["url"])
                case "Network.webSocketCreated":
                    self.requested.append(told["params"]["url"])
                case "Network.webSocketFrameReceived":
                    frame = told["params"]["response"]
                    self.received += base64.b64decode(frame["payloadData"]) if frame["opcode"] == 2 else b""
                case "Runtime.exceptionThrown":
                    self.complaints.append(json.dumps(told["params"]["exceptionDetails"]))
                case "Log.entryAdded" if told["params"]["entry"]["level"] == "error":
                    self.complaints.append(told["params"]["entry"]["text"])

    async def tell(self, method: str, **given: object) -> dict[str, Any]:
        """The result of a command."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": given})
        answer = await asyncio.wait_for(self._answers[number], DEADLINE_S)
        assert "error" not in answer, answer
        return dict(answer["result"])

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        told = await self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, condition: Callable[[], Awaitable[object]], what: str) -> None:
        """Wait for what the condition looks at."""
        end = asyncio.get_running_loop().time() + DEADLINE_S
        while not await condition():
            assert asyncio.get_running_loop().time() < end, f"never {what}"
            await asyncio.sleep(LOOK_S)

    async def until_shown(self, words: str) -> None:
        """Wait until the terminal in the page has these words on a line: it is sent only the cells that differ."""

        async def shown() -> bool:
            self._stream.feed(self.received[self._fed :])
            self._fed = len(self.received)
            return any(words in line for line in self._screen.display)

        await self.until(shown, f"{words!r} in {self.received[-4000:]!r}")

    async def until_sent(self, words: str, since: int) -> None:
        """Wait for words of one style that the terminal in the page is sent after so many bytes."""

        async def sent() -> bool:
            return words.encode() in self.received[since:]

        await self.until(sent, f"{words!r} in {self.received[since:][-4000:]!r}")

    async def until_true(self, script: str) -> None:
        """Wait for an expression in the page."""
        await self.until(lambda: self.evaluate(script), script)

    async def press(self, key: str, text: str = "", code: int = 0) -> None:
        """A key that is down and up; `text` is what it writes, `code` is its number where it writes nothing."""
        down = {"type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code}
        await self.tell("Input.dispatchKeyEvent", **down)
        await self.tell("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def size(self, width: int, height: int) -> None:
        """Pixels of the window."""
        given = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.tell("Emulation.setDeviceMetricsOverride", **given)

    async def picture(self) -> bytes:
        """A PNG of what it shows."""
        return base64.b64decode((await self.tell("Page.captureScreenshot", format="png"))["data"])

    async def close(self) -> None:
        await self._socket.close()
        await self._reader


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Page]:
    """The only page of a Chromium whose profile is in the folder; at `about:blank` yet."""
    name = program()
    assert name is not None
    profile = folder / "profile"
    process = await asyncio.create_subprocess_exec(
        name, *OPTIONS, f"--user-data-dir={profile}", "about:blank",
        stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, env=os.environ | {"HOME": str(folder)},
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as client:
            base = f"http://127.0.0.1:{await _port(profile / 'DevToolsActivePort', process)}"
            async with client.get(f"{base}/json") as answer:
                address = next(each for each in await answer.json() if each["type"] == "page")["webSocketDebuggerUrl"]
            async with client.ws_connect(address, max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Page", "Network", "Runtime", "Log"):
                    await page.tell(f"{domain}.enable")
                yield page
                await page.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _port(file: Path, process: asyncio.subprocess.Process) -> int:
    end = asyncio.get_running_loop().time() + DEADLINE_S
    while True:
        lines = file.read_text().split() if file.is_file() else []
        if len(lines) > 1:
            return int(lines[0])
        assert process.returncode is None, "Chromium did not start"
        assert asyncio.get_running_loop().time() < end, "Chromium does not say its port"
        await asyncio.sleep(LOOK_S)
