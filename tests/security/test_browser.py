"""`kasoku serve` lets in whoever has its link and nobody else; each way to come otherwise is refused."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiohttp import WSCloseCode, WSMsgType, WSServerHandshakeError
from yarl import URL

from sessions.device.affinity import ALLOWED
from tests.security.packet_app import FILE
from tests.sessions.processes import is_alive
from tui.browser import server, workbench_process
from tui.browser.door import Door, is_from_the_page, is_ours
from tui.browser.server import FILES, PAGE, BrowserServer

APP = Path(__file__).with_name("packet_app.py")
DEADLINE_S = 60.0
WHAT = ("", "static/textual.js", "static/page.css", "download/the-key", "ws", "nothing")  # below the place


class Served:
    """A server with the link that it printed, and a browser that has not been there."""

    def __init__(self, serves: BrowserServer, link: str, client: aiohttp.ClientSession, said: list[str]) -> None:
        self.serves, self.link, self.client, self.said = serves, URL(link), client, said
        self.origin = str(self.link.origin())
        self.place = ""

    async def enter(self) -> Served:
        """Open the link, as a browser does; what it is then."""
        async with self.client.get(self.link) as answer:
            assert answer.status == 200
            found = re.search(r'url=(/[^/"]+/)"', await answer.text())
        assert found is not None
        self.place = found[1]
        return self

    async def status(self, path: str, **headers: str) -> int:
        async with self.client.get(URL(self.origin + path, encoded=True), headers=headers) as answer:
            return answer.status

    @asynccontextmanager
    async def workbench(self, query: str = "", **headers: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        given = {"Origin": self.origin, **headers}
        async with self.client.ws_connect(f"{self.origin}{self.place}ws{query}", headers=given) as socket:
            yield socket

    async def refused(self, **headers: str) -> int:
        """The status with which a websocket is refused."""
        with pytest.raises(WSServerHandshakeError) as error:
            async with self.workbench(**headers):
                pass
        return error.value.status


@asynccontextmanager
async def serving(*command: str, sessions: int = 2) -> AsyncIterator[Served]:
    said: list[str] = []
    serves = BrowserServer(command or [sys.executable, str(APP)], sessions, said.append)
    link = await serves.listen("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
            yield Served(serves, link, client, said)
    finally:
        await serves.close()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as it:
        yield it


async def told(socket: aiohttp.ClientWebSocketResponse, words: bytes) -> None:
    """Wait until the app in the page has written this."""
    async with asyncio.timeout(DEADLINE_S):
        while (message := await socket.receive()).data != words:
            assert message.type is WSMsgType.BINARY, message


def apps() -> list[psutil.Process]:
    """The apps below this process."""
    found = []
    for one in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since
            if str(APP) in one.cmdline():
                found.append(one)
    return found


async def gone(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while any(map(is_alive, processes)):
            await asyncio.sleep(0.01)


# Who is let in


async def test_whoever_has_the_link_is_let_in_and_gets_a_cookie(served: Served) -> None:
    async with served.client.get(served.link) as answer:
        cookie = answer.headers["Set-Cookie"]
    place = re.search(r"Path=(/[\w-]{16}/)", cookie)
    assert place is not None
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert str(served.link.query["token"]) not in cookie
    served.place = place[1]
    async with served.client.get(served.origin + served.place) as page:
        assert page.status == 200
        assert f"ws://{served.link.authority}{served.place}ws" in await page.text()
    async with served.workbench() as socket:
        await told(socket, b"here")


@pytest.mark.parametrize("path", WHAT)
async def test_without_the_cookie_nothing_is_answered(served: Served, path: str) -> None:
    await served.enter()
    served.client.cookie_jar.clear()
    assert await served.status(served.place + path) == 403
    assert await served.status(served.place + path, Cookie="kasoku=") == 403
    assert await served.status(served.place + path, Cookie=f"kasoku={served.link.query['token']}") == 403


async def test_a_websocket_without_the_cookie_starts_nothing(served: Served) -> None:
    await served.enter()
    served.client.cookie_jar.clear()
    assert await served.refused() == 403
    assert apps() == []


async def test_the_link_works_once(served: Served) -> None:
    await served.enter()
    async with aiohttp.ClientSession() as another, another.get(served.link) as answer:
        assert answer.status == 403
        assert "opened before" in await answer.text()
        assert "Set-Cookie" not in answer.headers
    assert await served.status(served.place) == 200, "the first browser stays in"


async def test_a_wrong_token_is_refused_and_leaves_the_right_one_alone(served: Served) -> None:
    token = served.link.query["token"]
    for wrong in ("", token[:-1], token + "a", token.swapcase(), "%ff", "\u00e9"):
        async with served.client.get(served.link.with_query(token=wrong)) as answer:
            assert answer.status == 403
    async with served.client.get(served.link.with_query({})) as answer:
        assert answer.status == 403
    async with served.client.head(served.link) as answer:  # a chat program that looks where a link leads
        assert answer.status == 405
    await served.enter()


def test_nobody_is_known_before_the_token_is_taken() -> None:
    door = Door()
    assert not door.knows(None)
    cookie = door.take(door.token)
    assert cookie is not None
    assert door.knows(cookie)
    assert door.take(door.token) is None
    assert not Door().knows(cookie)


# From where


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:8765", True),
        ("localhost:9000", True),  # a forwarded port
        ("LOCALHOST", True),
        ("[::1]:8765", True),
        ("127.9.9.9:1", True),
        ("evil.example:8765", False),
        ("127.0.0.1.evil.example:8765", False),
        ("localhost.evil.example", False),
        ("evil.example#localhost:8765", False),
        ("localhost@evil.example", False),
        ("evil.example@localhost", False),
        ("localhost:8765:80", False),
        ("localhost:8765\n", False),
        ("localhost:\uff18", False),
        ("0.0.0.0:8765", False),
        ("192.168.1.2:8765", False),
        ("", False),
    ],
)
def test_which_names_are_this_machines(host: str, ours: bool) -> None:
    assert is_ours([host]) is ours
    assert not is_ours([host, "localhost"])


@pytest.mark.parametrize(
    ("origins", "same"),
    [
        (["http://localhost:8765"], True),
        (["http://localhost:8766"], False),
        (["https://localhost:8765"], False),
        (["http://127.0.0.1:8765"], False),
        (["http://localhost:8765.evil.example"], False),
        (["null"], False),
        ([""], False),
        ([], False),
        (["http://localhost:8765", "http://localhost:8765"], False),
    ],
)
def test_which_page_is_its_own(origins: list[str], same: bool) -> None:
    assert is_from_the_page(origins, "localhost:8765") is same


@pytest.mark.parametrize("path", WHAT)
async def test_another_name_of_this_machine_is_refused_with_the_cookie_too(served: Served, path: str) -> None:
    """DNS rebinding: a page of evil.example whose name now leads to 127.0.0.1."""
    host = f"evil.example:{served.link.port}"
    async with served.client.get(served.link, headers={"Host": host}) as answer:
        assert answer.status == 403
        assert "localhost" in await answer.text()
    await served.enter()
    assert await served.status(served.place + path, Host=host) == 403
    assert await served.refused(Host=host) == 403
    assert await served.refused(Host=host, Origin=f"http://{host}") == 403
    assert apps() == []


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://localhost:1", "https://{}"])
async def test_another_page_is_refused_with_the_cookie_too(served: Served, origin: str) -> None:
    await served.enter()
    origin = origin.format(served.link.authority)
    assert await served.refused(Origin=origin) == 403
    assert await served.status(served.place, Origin=origin) == 403
    assert apps() == []


async def test_a_websocket_that_does_not_say_where_it_is_from_is_refused(served: Served) -> None:
    await served.enter()
    with pytest.raises(WSServerHandshakeError) as error:
        await served.client.ws_connect(f"{served.origin}{served.place}ws")
    assert error.value.status == 403


async def raw(port: int, *lines: str) -> bytes:
    """What is answered to these lines, which no client would send so."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
    answer = await asyncio.wait_for(reader.read(), DEADLINE_S)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_request_with_no_host_or_with_two_is_refused(served: Served) -> None:
    assert served.link.port is not None
    for lines in (["GET / HTTP/1.0"], ["GET / HTTP/1.1", "Host: localhost", "Host: evil.example"]):
        assert re.match(rb"HTTP/1\.[01] 40[03] ", await raw(served.link.port, *lines))


# What there is


@pytest.mark.parametrize(
    "path",
    [
        "static/", "static", "static/../page.js", "static/../../../../etc/passwd", "static/%2e%2e/%2e%2e/etc/passwd",
        "static/..%2f..%2fserver.py", "static/%2fetc%2fpasswd", "static//etc/passwd", "static/js/textual.js",
        "static/textual.js/", "static/page.js%00.css", "static/index.html.jinja", "static/..%5cserver.py",
        "download/", "download/../static/page.js", "download/%2e%2e", "download/no-such-key", "ws/", "../",
    ],
)  # fmt: skip
async def test_there_is_nothing_but_what_is_listed(served: Served, path: str) -> None:
    await served.enter()
    assert served.link.port is not None
    [cookie] = served.client.cookie_jar
    head = ["Host: localhost", f"Cookie: kasoku={cookie.value}"]
    answer = await raw(served.link.port, f"GET {served.place}{path} HTTP/1.1", *head)
    assert re.match(rb"HTTP/1\.1 (404|403|400) ", answer), answer[:200]
    listed = await raw(served.link.port, f"GET {served.place}static/page.js HTTP/1.1", *head)
    assert listed.startswith(b"HTTP/1.1 200 ")


async def test_each_answer_forbids_to_load_anything_from_elsewhere(served: Served) -> None:
    await served.enter()
    for path in ("/", served.place, *(f"{served.place}static/{name}" for name in FILES), "/nothing"):
        async with served.client.get(served.origin + path) as answer:
            assert answer.status == (403 if path in ("/", "/nothing") else 200)
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "frame-ancestors 'none'" in policy
            assert set(re.findall(r"\w+://[^ ;]+", policy)) <= {f"ws://{served.link.authority}"}
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] == "no-store"


def test_the_page_names_nothing_from_elsewhere() -> None:
    files = [path for path in PAGE.iterdir() if path.is_file()]
    assert {path.suffix for path in files} == {".jinja", ".css", ".js"}
    for path in files:
        assert re.findall(r"https?:|//[a-z]|@import", path.read_text()) == [], path
    for path, _ in FILES.values():
        assert path.is_file()


# The workbenches


async def test_what_a_page_says_reaches_its_app(served: Served) -> None:
    await served.enter()
    async with served.workbench("?width=120&height=36") as socket:
        await told(socket, b"here")
        [app] = apps()
        assert (app.environ()["COLUMNS"], app.environ()["ROWS"]) == ("120", "36")
        assert app.cpu_affinity() == sorted(ALLOWED)
        await socket.send_json(["stdin", "\u00e9\ud800"])
        await told(socket, "got \u00e9?".encode())
        await socket.send_json(["resize", {"width": 80, "height": 10**9}])
        await told(socket, b'told {"type": "resize", "width": 80, "height": 1000}')
        await socket.send_json(["focus"])
        await told(socket, b'told {"type": "focus"}')
        await socket.send_json(["stdin", "\x1b[?2026;0$y"])  # xterm.js's answer as Textual hears it
        await told(socket, b"got \x1b[?2026;2$y")
        await socket.send_json(["ping", "7"])
        assert await socket.receive_json(timeout=DEADLINE_S) == ["pong", "7"]
    await gone([app])


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, "[]", '["stdin"]', '["stdin", 1]', '["resize", {"width": "1", "height": 2}]', '["quit"]'],
)
async def test_a_message_of_another_form_ends_the_workbench(served: Served, text: str) -> None:
    await served.enter()
    async with served.workbench() as socket:
        await told(socket, b"here")
        running = apps()
        await socket.send_str(text)
        async with asyncio.timeout(DEADLINE_S):
            while not socket.closed:
                await socket.receive()
        assert socket.close_code == WSCloseCode.POLICY_VIOLATION
    await gone(running)
    assert served.said == []


async def test_no_more_workbenches_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "RELOADING_S", 0.05)
    async with serving(sessions=2) as served:
        await served.enter()
        async with served.workbench() as first, served.workbench() as second:
            await told(first, b"here")
            await told(second, b"here")
            assert await served.refused() == 503
            async with served.client.get(served.origin + served.place) as page:
                assert page.status == 503
                assert "`kasoku serve --sessions 2` allows" in await page.text()
            assert len(apps()) == 2
            monkeypatch.setattr(server, "RELOADING_S", DEADLINE_S)
            await second.close()
            async with served.workbench() as third:
                await told(third, b"here")


async def test_a_download_comes_from_its_workbench_and_needs_the_cookie(served: Served) -> None:
    await served.enter()
    async with served.workbench() as socket:
        await told(socket, b"here")
        await socket.send_json(["stdin", "f"])
        await told(socket, b"got f")
        said = await socket.receive_json(timeout=DEADLINE_S)
        assert said == ["open_url", {"url": "download/the-key", "new_tab": True}]
        address = f"{served.origin}{served.place}download/the-key"
        async with aiohttp.ClientSession() as another, another.get(address) as answer:
            assert answer.status == 403
        async with served.client.get(address) as answer:
            assert answer.status == 200
            assert await answer.read() == FILE
            assert answer.headers["Content-Type"] == "application/octet-stream"
            named = answer.headers["Content-Disposition"]
            assert named == "attachment; filename*=UTF-8''a%20%E2%80%9Cscreen%E2%80%9D.svg"
            assert answer.headers["Content-Security-Policy"].endswith("; sandbox")


async def test_the_end_of_the_server_ends_each_workbench(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that reads nothing and does not quit."""
    monkeypatch.setattr(workbench_process, "ENDING_S", 0.2)
    for arguments in ((), ("stubborn",)):
        async with serving(sys.executable, str(APP), *arguments) as served:
            await served.enter()
            async with served.workbench() as socket, served.workbench() as another:
                await told(socket, b"here")
                await told(another, b"here")
                running = apps()
                assert len(running) == 2

                async def until_closed(each: aiohttp.ClientWebSocketResponse) -> int | None:
                    await each.receive(timeout=DEADLINE_S)
                    return each.close_code

                closed = [asyncio.create_task(until_closed(each)) for each in (socket, another)]
                await asyncio.sleep(0)
                await served.serves.close()
                assert await asyncio.gather(*closed) == [WSCloseCode.GOING_AWAY] * 2
            await gone(running)


@pytest.mark.parametrize(("program", "sentences"), [("/no/such/program", 1), ("true", 0)])
async def test_an_app_that_does_not_start_or_ends_at_once_closes_its_page(program: str, sentences: int) -> None:
    async with serving(program, sessions=1) as served:
        await served.enter()
        for _ in range(2):  # its place is free again
            async with served.workbench() as socket:
                message = await socket.receive(timeout=DEADLINE_S)
                assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
        assert len(served.said) == 2 * sentences
