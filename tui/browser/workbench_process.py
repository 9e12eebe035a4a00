"""The workbench of one browser: a process of its own, whose screen goes to a page and whose keys come from there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from sessions.device.affinity import ALLOWED, starting_on

ENDING_S: Final = 4.0  # for each step of its end
# xterm.js answers that it does not know the mode, Textual listens only for one that does; either has shown the frame.
ANSWERS: Final = {b"\x1b[?2026;0$y": b"\x1b[?2026;2$y"}


class BrowserWorkbench(AppService):
    """textual-serve's process of an app, started without a shell and ended for certain."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        write_bytes: Callable[[bytes], Awaitable[None]],
        write_str: Callable[[str], Awaitable[None]],
        close: Callable[[], Awaitable[object]],
        downloads: DownloadManager,
    ) -> None:
        async def say(text: str) -> None:
            await write_str(_with_its_place(text))

        async def end() -> None:
            await close()

        super().__init__("", write_bytes=write_bytes, write_str=say, close=end, download_manager=downloads)
        self._arguments = tuple(command)

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        """Raises OSError."""
        with starting_on(ALLOWED):
            process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=self._build_environment(width=width, height=height),
                start_new_session=True,  # ctrl+c in the server's terminal is the server's alone
            )
        self._process, self._stdin = process, process.stdin
        return process

    async def send_bytes(self, data: bytes) -> bool:
        return await super().send_bytes(ANSWERS.get(data, data))

    async def run(self) -> None:
        """Until the workbench has ended, however; then the page is told."""
        try:
            await super().run()
        finally:
            with contextlib.suppress(ConnectionError):
                await self.remote_close()

    async def stop(self) -> None:
        """Ask the workbench to quit, and end it if it does not within a few seconds; what it measures goes on."""
        process, task, self._task = self._process, self._task, None
        if process is None or task is None:
            return
        await self._download_manager.cancel_app_downloads(app_service_id=self.app_service_id)
        with contextlib.suppress(RuntimeError, ConnectionError):
            self.stdin.write(self.encode_packet(b"M", b'{"type": "quit"}'))
        await asyncio.wait([task], timeout=ENDING_S)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        self.stdin.close()
        rest = asyncio.create_task(process.communicate())
        await asyncio.wait([rest], timeout=ENDING_S)
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.wait([rest], timeout=ENDING_S)


def _with_its_place(message: str) -> str:
    """A message for the page, which by itself fetches a download from the server's root."""
    match json.loads(message):
        case ["deliver_file_start", str(key)]:
            return json.dumps(["open_url", {"url": f"download/{key}", "new_tab": True}])
    return message
