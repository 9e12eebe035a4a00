"""`kasoku serve`: the workbench in a browser of this machine, for whoever has the link."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING, Final

from methods.base.home import config_folder, home
from sessions.device.affinity import keep_to, shared_out
from sessions.run.own_process import own_process
from tui.command_line import EXIT_OK, UsageError
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from tui.browser.server import BrowserServer

WORKBENCH: Final = "tui.commands.workbench"
OURS: Final = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "::1"}
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOGGERS: Final = ("aiohttp", "asyncio", "textual-serve")


def serve(options: argparse.Namespace) -> int:
    """Print the link, and serve until ctrl+c."""
    host = OURS.get(options.host)
    if host is None:
        raise UsageError(
            f"--host {options.host!r} is not this machine's own: use 127.0.0.1, localhost or ::1, and from"
            f" elsewhere `ssh -L {options.port}:127.0.0.1:{options.port} MACHINE`."
        )
    try:
        from tui.browser.server import BrowserServer
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("tui"):
            raise
        raise UsageError(
            f"`kasoku serve` needs {error.name}, which is not installed: in the clone of Kasoku, `uv tool install"
            " '.[serve]'` (or: `pip install '.[serve]'`)."
        ) from None
    home(), config_folder()  # what is wrong with them is said here, and not to each page
    _tell_in_sentences()
    keep_to(shared_out().workbench)
    command = own_process(WORKBENCH, *(["--demo"] if options.recording else []))
    return asyncio.run(_serve(BrowserServer, command, options.sessions, host, options.port))


async def _serve(server_of: type[BrowserServer], command: list[str], sessions: int, host: str, port: int) -> int:
    from tui.browser.server import ListenError

    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            loop.add_signal_handler(number, over.set)
    server = server_of(command, sessions, _say)
    try:
        link = await server.listen(host, port)
    except ListenError as error:
        raise UsageError(str(error)) from None
    try:
        sys.stdout.write(
            f"{link}\n\nOpen this link in a browser of this machine; it works once. From elsewhere, forward the port"
            f" first:\n`ssh -L {port}:{host}:{port} MACHINE`. ctrl+c ends the workbenches; a measurement goes on.\n"
        )
        sys.stdout.flush()
        await over.wait()
    finally:
        await server.close()
    return EXIT_OK


def _say(sentence: str) -> None:
    sys.stderr.write(f"kasoku: {one_line(sentence, 600)}\n")


class _Sentences(logging.Handler):
    """What the libraries log, a line each and without a traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        _say(f"{record.getMessage()}{f' ({type(error).__name__}: {error})' if error is not None else ''}")


def _tell_in_sentences() -> None:
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_Sentences(logging.ERROR)], False
