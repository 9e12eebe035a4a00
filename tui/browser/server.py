"""The web server of `kasoku serve`, on loopback: the one module of the user interface that opens a socket.

Nothing is answered to whoever comes by a name that is not this machine's, from another page, or without the cookie.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import textual_serve
from aiohttp import WSCloseCode, WSMsgType, web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from textual_serve.download_manager import DownloadManager

from tui.browser.door import Door, is_from_the_page, is_ours
from tui.browser.workbench_process import BrowserWorkbench

COOKIE: Final = "kasoku"
PAGE: Final = Path(__file__).parent / "page"
STATIC: Final = Path(textual_serve.__file__).parent / "static"
FILES: Final = {  # all that a page can ask for below static/
    "page.css": (PAGE / "page.css", "text/css"),
    "page.js": (PAGE / "page.js", "text/javascript"),
    "xterm.css": (STATIC / "css" / "xterm.css", "text/css"),
    "textual.js": (STATIC / "js" / "textual.js", "text/javascript"),
    "roboto-mono.ttf": (STATIC / "fonts" / "RobotoMono-VariableFont_wght.ttf", "font/ttf"),
    "roboto-mono-italic.ttf": (STATIC / "fonts" / "RobotoMono-Italic-VariableFont_wght.ttf", "font/ttf"),
}
POLICY: Final = (  # textual.js puts style sheets of its own into the page
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; img-src 'self' data:;"
    " connect-src 'self' ws://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ELSEWHERE: Final = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS: Final = {
    "Content-Security-Policy": ELSEWHERE,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
FONT_SIZE: Final = 16
RELOADING_S: Final = 5.0  # a page that is loaded again asks for its next workbench before its last has ended
HEARTBEAT_S: Final = 15.0
ANSWERING_S: Final = 2.0  # for a page to agree that its socket is closed
SHUTDOWN_S: Final = 20.0
MESSAGE_BYTES: Final = 1 << 20
MOST_CELLS: Final = 1000  # a side

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ListenError(Exception):
    """The port cannot be had; the message is a sentence."""


class BrowserServer:
    """A workbench for each page that is open, at most `sessions` of them, started by `command`."""

    def __init__(self, command: Sequence[str], sessions: int, say: Callable[[str], None]) -> None:
        self._command, self._sessions, self._say = command, sessions, say
        self._door = Door()
        self._free = asyncio.Semaphore(sessions)
        self._sockets: set[web.WebSocketResponse] = set()
        self._downloads = DownloadManager()
        self._pages = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=SHUTDOWN_S)

    def _app(self) -> web.Application:
        place = f"/{self._door.place}"
        app = web.Application(middlewares=[self._let_in])
        app.add_routes(
            [
                web.get("/", self._enter, allow_head=False),
                web.get(f"{place}/", self._page, allow_head=False),
                web.get(f"{place}/static/{{name}}", self._file, allow_head=False),
                web.get(f"{place}/download/{{key}}", self._download, allow_head=False),
                web.get(f"{place}/ws", self._show, allow_head=False),
            ]
        )
        app.on_response_prepare.append(_add_headers)
        app.on_shutdown.append(self._close_pages)
        return app

    async def listen(self, host: str, port: int) -> str:
        """Begin to answer on an address of loopback; the link that lets one browser in. Raises ListenError."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ListenError(_why(host, port, error)) from None
        at = self._runner.addresses[0][1]
        return f"http://{f'[{host}]' if ':' in host else host}:{at}/?token={self._door.token}"

    async def close(self) -> None:
        """End all workbenches and answer no more; what they measure goes on."""
        await self._runner.cleanup()

    @web.middleware
    async def _let_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts, origins = request.headers.getall("Host", []), request.headers.getall("Origin", [])
        if not is_ours(hosts):
            raise web.HTTPForbidden(text="This server answers to localhost and 127.0.0.1 alone.")
        asks_for_socket = "Upgrade" in request.headers
        if (origins or asks_for_socket) and not is_from_the_page(origins, hosts[0]):
            raise web.HTTPForbidden(text="This server answers its own page alone.")
        if request.path != "/" and not self._door.knows(request.cookies.get(COOKIE)):
            raise web.HTTPForbidden(text="Open the link that `kasoku serve` has printed.")
        return await handler(request)

    async def _enter(self, request: web.Request) -> web.Response:
        """Take the token. The page that follows is asked for by this answer's page and not by a redirection, which
        would come without the cookie where the link was in another page."""
        if "token" not in request.query:
            raise web.HTTPForbidden(text="Open the link that `kasoku serve` has printed.")
        cookie = self._door.take(request.query["token"])
        if cookie is None:
            raise web.HTTPForbidden(
                text="This link was opened before, or is not the one that `kasoku serve` has printed. The browser that"
                " opened it is let in: duplicate its tab there. For another browser start `kasoku serve` again."
            )
        place = f"/{self._door.place}/"
        response = self._text("enter.html.jinja", place=place)
        response.set_cookie(COOKIE, cookie, path=place, httponly=True, samesite="Strict")
        return response

    async def _page(self, request: web.Request) -> web.Response:
        async with self._one_of_the_sessions():
            pass
        response = self._text("index.html.jinja", socket=f"ws://{request.host}{request.path}ws", font_size=FONT_SIZE)
        response.headers["Content-Security-Policy"] = POLICY.format(host=request.host)
        return response

    def _text(self, template: str, **values: object) -> web.Response:
        return web.Response(text=self._pages.get_template(template).render(values), content_type="text/html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        found = FILES.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        path, kind = found
        return web.FileResponse(path, headers={"Content-Type": kind})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        """A file that a workbench delivers, a screenshot for one."""
        key = request.match_info["key"]
        try:
            found = await self._downloads.get_download_metadata(key)
        except KeyError:
            raise web.HTTPNotFound from None
        name = quote(found.file_name, safe="", errors="replace")
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
                "Content-Security-Policy": f"{ELSEWHERE}; sandbox",
            }
        )
        await response.prepare(request)
        async for chunk in self._downloads.download(key):
            await response.write(chunk)
        await response.write_eof()
        return response

    # A workbench

    @asynccontextmanager
    async def _one_of_the_sessions(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(RELOADING_S):
                await self._free.acquire()
        except TimeoutError:
            raise web.HTTPServiceUnavailable(
                text=f"As many workbenches are open as `kasoku serve --sessions {self._sessions}` allows: close one and"
                " load this page again."
            ) from None
        try:
            yield
        finally:
            self._free.release()

    async def _show(self, request: web.Request) -> web.WebSocketResponse:
        """Start a workbench, and connect it with the page until one of them ends."""
        async with self._one_of_the_sessions():
            socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, timeout=ANSWERING_S, max_msg_size=MESSAGE_BYTES)
            await socket.prepare(request)
            workbench = BrowserWorkbench(
                self._command,
                write_bytes=socket.send_bytes,
                write_str=socket.send_str,
                close=socket.close,
                downloads=self._downloads,
            )
            self._sockets.add(socket)
            try:
                if await self._started(workbench, request):
                    await _listen_to(socket, workbench)
            except ConnectionError:  # the page was closed while it was answered
                pass
            finally:
                await workbench.stop()
                self._sockets.discard(socket)
                await socket.close()
            return socket

    async def _started(self, workbench: BrowserWorkbench, request: web.Request) -> bool:
        try:
            await workbench.start(_side(request.query.get("width"), 80), _side(request.query.get("height"), 24))
        except OSError as error:
            self._say(f"A workbench cannot be started ({error.strerror}).")
            return False
        return True

    async def _close_pages(self, app: web.Application) -> None:
        del app
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._sockets))


async def _listen_to(socket: web.WebSocketResponse, workbench: BrowserWorkbench) -> None:
    """Pass on what the page says until its socket is closed, which a message of another form has done at once."""
    async for message in socket:
        try:
            told = json.loads(message.data) if message.type is WSMsgType.TEXT else None
        except (ValueError, RecursionError):
            told = None
        match told:
            case ["stdin", str(keys)]:
                await workbench.send_bytes(keys.encode("utf-8", "replace"))
            case ["resize", {"width": int(width), "height": int(height)}]:
                await workbench.set_terminal_size(_side(width, 80), _side(height, 24))
            case ["ping", str(sent)]:
                await socket.send_json(["pong", sent])
            case ["focus"]:
                await workbench.focus()
            case ["blur"]:
                await workbench.blur()
            case _:
                await socket.close(code=WSCloseCode.POLICY_VIOLATION)


def _side(given: str | int | None, usual: int) -> int:
    """Cells of a side of the terminal."""
    try:
        return min(max(int(given or usual), 1), MOST_CELLS)
    except ValueError:
        return usual


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    del request
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def _why(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"Port {port} is in use on {host}: choose another one with --port."
        case errno.EACCES:
            return f"Port {port} is for root alone on this machine: choose one from 1024 on with --port."
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return f"This machine has no {host}: use --host 127.0.0.1."
    return f"Port {port} on {host} cannot be opened ({error.strerror}): choose another one with --port."
