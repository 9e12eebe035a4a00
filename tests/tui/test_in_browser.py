"""The real workbench behind `kasoku serve`: in a real Chromium, and as a measurement that it began outlives it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil
import pyte
import pytest

from probes.host.sockets import sockets_of
from sessions.disk.records import Tokens
from tests.cli.test_serve import free_port
from tests.security.test_sockets import assert_listens_nowhere
from tests.sessions.conftest import opened
from tests.sessions.processes import is_alive, until
from tests.sessions.workplace import (
    KASOKU,
    Workplace,
    assert_nothing_left,
    conductor_of,
    environment_of,
    records_of,
)
from tests.tui import chromium
from tests.tui.terminal import QUESTION

pytestmark = pytest.mark.engines
WIDTH, HEIGHT = 1085, 760  # pixels of 120x36 cells
DEADLINE_S = 120.0


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workplace]:
    yield from opened(tmp_path)


@asynccontextmanager
async def serving(work: Workplace, *arguments: str) -> AsyncIterator[tuple[Process, str]]:
    """The command and its link."""
    command = ["env", "--default-signal=INT,HUP", str(KASOKU), "serve", "--port", str(free_port()), *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environment_of(work))
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(process: Process) -> int:
    return await asyncio.wait_for(process.wait(), DEADLINE_S)


def workbenches(server: Process) -> list[psutil.Process]:
    return psutil.Process(server.pid).children()


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(map(is_alive, processes))


# In Chromium


@pytest.mark.skipif(chromium.program() is None, reason="this machine has no Chromium")
async def test_chromium_shows_the_form_and_loads_nothing_from_elsewhere(work: Workplace, tmp_path: Path) -> None:
    work.method("of-mine")
    async with serving(work) as (server, link), chromium.opened(tmp_path / "chromium") as page:
        await page.size(WIDTH, HEIGHT)
        await page.tell("Page.navigate", url=link)
        await page.until_shown("of-mine")
        assert "?width=120&height=36" in page.requested[-1]
        await page.press("?", "?")
        await page.until_shown("Help: escape closes it")
        before = len(page.received)
        await page.press("Escape", code=27)
        await page.until_sent("of-mine", since=before)  # a key that follows at once would be one with it
        await page.press("q", "q")
        await page.until_true("document.body.classList.contains('-closed')")
        before = len(page.received)
        await page.tell("Runtime.evaluate", expression="document.getElementById('again').click()")
        await page.until_sent("of-mine", since=before)
        address = urlsplit(link).netloc
        assert {urlsplit(each).netloc for each in page.requested if not each.startswith("data:")} == {address}
        assert {urlsplit(each).scheme for each in page.requested} <= {"http", "ws", "data"}
        assert page.complaints == []
        running = workbenches(server)
        server.send_signal(signal.SIGINT)
        assert await ended(server) == 0
        until(lambda: all_gone(running), "the workbench ends with its server")


@pytest.mark.skipif(chromium.program() is None, reason="this machine has no Chromium")
async def test_chromium_plays_the_recording_and_is_asked_after_each_frame(work: Workplace, tmp_path: Path) -> None:
    async with serving(work, "--demo") as (_, link), chromium.opened(tmp_path / "chromium") as page:
        await page.size(WIDTH, HEIGHT)
        await page.tell("Page.navigate", url=link)
        await page.until_shown("tokens/s over time")

        async def asked() -> bool:
            return page.received.count(QUESTION) > 5  # only a terminal that answers is asked again

        await page.until(asked, "frames that are followed by a question")
        assert page.complaints == []


# Without one


@asynccontextmanager
async def workbench(link: str) -> AsyncIterator[tuple[aiohttp.ClientSession, str, Page]]:
    """What a page has: the cookie, where it is, and its socket with a terminal."""
    parts = urlsplit(link)
    origin = f"{parts.scheme}://{parts.netloc}"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        async with client.get(link) as answer:
            found = re.search(r'url=(/[^/"]+/)"', await answer.text())
        assert found is not None
        address = f"{origin}{found[1]}"
        async with client.ws_connect(f"{address}ws?width=120&height=36", headers={"Origin": origin}) as socket:
            yield client, address, Page(socket)


class Page:
    """A workbench's socket with the terminal that a page has: only cells that differ are sent."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.written = b""
        self._screen = pyte.Screen(120, 36)
        self._stream = pyte.ByteStream(self._screen)

    async def press(self, keys: str) -> None:
        await self.socket.send_json(["stdin", keys])

    async def until(self, words: str) -> None:
        """Wait until the terminal has these words on a line."""
        async with asyncio.timeout(DEADLINE_S):
            while not any(words in line for line in self._screen.display):
                message = await self.socket.receive()
                assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), (
                    message,
                    self._screen.display,
                )
                if isinstance(message.data, bytes):
                    self.written += message.data
                    self._stream.feed(message.data)


async def test_a_measurement_that_a_browser_began_outlives_workbench_and_server(work: Workplace) -> None:
    work.method("slow", rate=20.0)
    folder = work.launch("slow", max_new_tokens=2_000)
    until(lambda: any(isinstance(record, Tokens) for record in records_of(folder)), "tokens flow")
    folder.ask("stop")
    work.finished(folder)
    async with serving(work) as (server, link), workbench(link) as (_, _, shown):
        await shown.until("slow")
        await shown.press("2")
        await shown.until(folder.id[:8])
        await shown.press("u")
        await shown.until("tok/s now")
        running = workbenches(server)
        server.send_signal(signal.SIGHUP)
        assert await ended(server) == 0
    until(lambda: all_gone(running), "the workbench ends with its server")
    conductor = conductor_of(folder)
    before = len(records_of(folder))
    until(lambda: len(records_of(folder)) > before + 20, "it goes on")
    assert conductor.is_running()
    folder.ask("stop")
    work.finished(folder)
    assert_nothing_left(folder)


async def test_a_workbench_does_not_outlive_a_server_that_was_killed(work: Workplace) -> None:
    (work.config / "settings.toml").write_text("mouse = false\n")
    async with serving(work) as (server, link), workbench(link) as (_, _, shown):
        await shown.until("this machine")
        assert b"\x1b[?1003l" in shown.written, "the mouse is let go"
        running = workbenches(server)
        assert len(running) == 1
        assert_listens_nowhere(running[0])
        found = sockets_of([server.pid])
        assert (found.listening, found.beyond) == ((urlsplit(link).netloc,), ())
        server.kill()
        await ended(server)
        until(lambda: all_gone(running), "the workbench ends without its server")
    assert not os.path.lexists(work.home / "workbench-failure.log")


async def test_a_screenshot_is_downloaded(work: Workplace) -> None:
    async with serving(work) as (_, link), workbench(link) as (client, address, shown):
        await shown.until("this machine")
        for keys in ("\x10", "screenshot"):
            await shown.press(keys)
        await shown.until("Screenshot")
        await shown.press("\r")
        async with asyncio.timeout(DEADLINE_S):
            while (message := await shown.socket.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
        kind, told = json.loads(message.data)
        assert kind == "open_url"
        async with client.get(address + told["url"]) as answer:
            assert answer.status == 200
            assert (await answer.text()).startswith("<svg")
            assert answer.headers["Content-Disposition"].endswith(".svg")
