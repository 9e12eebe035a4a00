"""Following a session from the command line until it ends, and the resulting exit code."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict

from sessions.close.session_end import recover
from sessions.device.affinity import keep_to, shared_out
from sessions.disk.host_file import host_of, is_lost
from sessions.disk.journal import JournalError
from sessions.disk.session_folder import UNFINISHED, SessionError, SessionFile, SessionFolder
from sessions.disk.store import Store
from sessions.export.article import article_tables, prepared_model
from sessions.export.csv_export import ExportError, comparison_rows, keep_comparison_csv
from sessions.verdict.comparison import Comparison, compare
from sessions.verdict.server_figures import ServerFigures, server_figures
from sessions.watch.following import Follower
from sessions.watch.live import Live
from tui.command_line import EXIT_INTERRUPTED, EXIT_METHOD_FAILED, EXIT_OK, UsageError
from tui.commands.store import store
from tui.print.article_view import print_article
from tui.print.console import console
from tui.print.progress_view import ProgressView, follow
from tui.print.result_table import print_comparison
from tui.print.server_view import print_server
from tui.words.terminal_text import json_document, one_line, plain

FRAME_S = 0.2
CSV_NAME = "comparison.csv"


def watch(folder: SessionFolder, *, ctrl_c_stops: bool, quiet: bool) -> bool:
    """Follow until the session has ended; True if the user left earlier.

    With `ctrl_c_stops` the first ctrl+c asks the session to stop and the second leaves; else the first leaves.
    """
    keep_to(shared_out().workbench)
    screen = console(sys.stderr if quiet else sys.stdout, quiet)
    try:
        follower = Follower(folder)
    except SessionError as error:
        raise UsageError(str(error)) from None
    asked = lost = False
    hosted = host_of(folder.path) is not None

    with ProgressView(screen) as view:

        def poll() -> Live | None:
            nonlocal lost
            time.sleep(FRAME_S)  # whatever there is to read: on a machine without a core to spare each frame is dear
            until, moved = time.monotonic() + FRAME_S, False
            try:
                while time.monotonic() < until and follower.poll():
                    moved = True
            except (JournalError, SessionError) as error:
                raise UsageError(str(error)) from None
            if hosted and lost != is_lost(folder.path):
                lost = not lost
                view.tell_reach(lost=lost)
            if not moved and ((follower.ended and not folder.is_live()) or follower.abandoned):
                return None
            return follower.snapshot()

        def interrupted() -> bool:
            nonlocal asked
            if not ctrl_c_stops or asked:
                return True
            asked = True
            _ask_to_stop(folder)
            view.footer = "stopping; saving what was measured (ctrl+c again to leave at once)"
            return False

        return follow(view, poll, interrupted)


def watch_own(folder: SessionFolder, pressed: list[int], *, quiet: bool) -> bool:
    """Follow a session that this command began: ctrl+c stops it, also one that came before there was a view."""
    try:
        if pressed:
            raise KeyboardInterrupt
        return watch(folder, ctrl_c_stops=True, quiet=quiet)
    except KeyboardInterrupt:
        _ask_to_stop(folder)
        return True


def _ask_to_stop(folder: SessionFolder) -> None:
    try:
        folder.ask("stop")
    except SessionError as error:
        raise UsageError(str(error)) from None


def outcome(folder: SessionFolder, as_json: bool, among: Store | None = None) -> int:
    """Show how a session ended, one of this home but for `among`: its table, the path of its CSV, its exit code."""
    try:
        recover(folder)
        session = folder.read()
        comparison = compare(among or store(), [(folder.id, None)])
        server = server_figures(folder)
    except SessionError as error:
        raise UsageError(str(error)) from None
    if as_json:
        sys.stdout.write(json_document(_document(folder, session, comparison, server)))
    else:
        screen = console()
        if server is not None:
            screen.print()
            print_server(screen, server, session.plan)
        elif comparison.rows:
            screen.print()
            print_comparison(screen, comparison)
        if session.plan.preset == "article":
            screen.print()
            print_article(screen, article_tables(session, comparison, prepared_model(folder)))
        if session.error:
            screen.print(one_line(f"The session {session.status}: {session.error}", 600), style="red", markup=False)
        screen.print(f"\nSaved as {folder.id} in {plain(folder.place)}", markup=False, soft_wrap=True)
        if not folder.is_own:
            return exit_code(folder)
        try:
            path = keep_comparison_csv(comparison, folder.path / CSV_NAME)
            screen.print(f"CSV: {plain(str(path))}", markup=False, soft_wrap=True)
        except ExportError as error:
            screen.print(one_line(str(error), 600), markup=False)
    return exit_code(folder)


def document(folder: SessionFolder) -> dict[str, object]:
    """How a session ended, for `--json`. Raises SessionError."""
    recover(folder)
    return _document(folder, folder.read(), compare(store(), [(folder.id, None)]), server_figures(folder))


def _document(
    folder: SessionFolder, session: SessionFile, comparison: Comparison, server: ServerFigures | None
) -> dict[str, object]:
    return {
        "session": folder.id,
        "status": session.status,
        "error": session.error,
        "folder": str(folder.path),
        "comparison": comparison_rows(comparison),
        **({} if server is None else {"server": asdict(server)}),
    }


def exit_code(folder: SessionFolder) -> int:
    """0 all ran; 1 a method asked for by name, or the session itself, did not run to its end; 130 stopped."""
    import polars as pl

    from sessions.disk.frame_schema import FrameError, read_frame
    from sessions.frames.counting import block_ended_well, last_attempts

    session = folder.read()
    if session.status in ("stopped", "interrupted", *UNFINISHED):
        return EXIT_INTERRUPTED
    if session.status != "finished":
        return EXIT_METHOD_FAILED
    try:
        plan = folder.plan()
        named = {method.name for method in plan.methods if method.named}
        runs = read_frame(folder.frame("runs"), "runs")
    except (SessionError, FrameError):
        return EXIT_METHOD_FAILED  # what was measured cannot be read; the table said why
    last = last_attempts(runs)
    unavailable = pl.col("status") == "unavailable"
    failed = last.filter(~block_ended_well() & (pl.col("method").is_in(named) | ~unavailable))
    served = set(last.filter(block_ended_well())["method"])
    if plan.goal.is_cut:  # the time was up before a response of its last block was complete
        failed = failed.filter((pl.col("status") != "stopped") | ~pl.col("method").is_in(served))
    if plan.has_load:  # a point that a method cannot serve is no failure, if it serves another
        failed = failed.filter(~unavailable | ~pl.col("method").is_in(served))
    return EXIT_METHOD_FAILED if len(failed) else EXIT_OK
