"""`kasoku sessions`, `show`, `compare` and `export`: what is saved."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.gpu.link import linked_in_words
from probes.machine import Machine
from sessions.disk.session_folder import SessionError, SessionFile, SessionFolder
from tui.command_line import EXIT_METHOD_FAILED, EXIT_OK, EXIT_USAGE, UsageError
from tui.commands.store import all_sessions, find
from tui.print.plain_table import table_lines
from tui.words.amount import amount
from tui.words.figures import rate
from tui.words.model_text import model_text
from tui.words.terminal_text import json_document, one_line, plain

if TYPE_CHECKING:
    import polars as pl

    from sessions.disk.frame_schema import FrameRow
    from sessions.disk.slo import Slo
    from sessions.disk.store import Store
    from sessions.verdict.comparison import Comparison


def sessions(options: argparse.Namespace) -> int:
    """A line for every session, newest first; without those of a store that cannot be read, which is said."""
    store = all_sessions(options.store)
    rows, code = store.listed(), EXIT_OK
    try:
        rows = sorted([*rows, *store.shared_rows()], key=lambda row: row.id, reverse=True)
    except SessionError as error:
        sys.stderr.write(f"kasoku: {one_line(str(error), 600)}\n")
        code = EXIT_METHOD_FAILED
    if options.json:
        import msgspec

        _document([msgspec.structs.asdict(row) for row in rows])
        return code
    if not rows:
        sys.stdout.write("No sessions yet: `kasoku run` creates one.\n")
        return code
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    elsewhere = store.shared is not None or any(row.host for row in rows)
    cells = [
        (
            row.id,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created_ns // 10**9)) if row.created_ns else "",
            one_line(row.status, 20) + (", out of reach" if row.lost else ""),
            one_line(row.model, 100),
            str(len(row.methods)),
            one_line(f"{row.best} {rate(row.best_tok_s)}" if row.best else row.problem, 100),
            one_line(row.name, 100),
            *(["store" if row.store else one_line(row.host, 40)] if elsewhere else []),
        )
        for row in rows
    ]
    beside = ["in"] if elsewhere else []
    head = ("session", "when", "status", "model", "methods", "fastest", "name", *beside)
    sys.stdout.writelines(f"{line}\n" for line in table_lines(head, cells, width, whole=1))
    return code


def _opened(session: str, store: Store) -> tuple[SessionFolder, SessionFile]:
    """The session, finalised if needed, as it was read then; UsageError if it cannot be opened."""
    from sessions.close.session_end import recover

    folder = find(session, store)
    try:
        if not folder.is_live():
            recover(folder)
        return folder, folder.read()
    except SessionError as error:
        raise UsageError(str(error)) from None


def show(options: argparse.Namespace) -> int:
    """One session: its plan, machine, rows with evidence, and failures with the last lines of their logs."""
    store = all_sessions(options.store)
    folder, session = _opened(options.session, store)
    if options.tool is not None:
        from tui.commands.other_tools import show_as

        return show_as(folder, store, options.tool, options.json)
    comparison = _compared(store, [(folder.id, None)], None, anyway=True)
    if options.json:
        from sessions.export.csv_export import comparison_rows

        runs = _runs(folder)
        rows = runs.to_dicts() if runs is not None else []
        _document({"session": _builtins(session), "runs": rows, "comparison": comparison_rows(comparison)})
        return EXIT_OK
    from rich.text import Text

    from sessions.verdict.server_figures import server_figures
    from tui.print.console import console
    from tui.print.result_table import print_comparison
    from tui.print.server_view import print_server

    screen = console()
    plan = session.plan
    machine = session.machine
    lines = [
        f"{session.id}  {session.status}  {session.name}".rstrip(),
        f"model {model_text(plan)}, device {plan.device_name or plan.device}, {plan.threads} threads, seed {plan.seed}",
        f"{amount(plan, session.goal)}, {plan.warmup} warm-ups each, sampling {json.dumps(_builtins(plan.sampling))}",
        f"machine: {machine.cpu_model}, {machine.os}, kernel {machine.kernel}" if machine != Machine() else "",
        *(f"linked: {words}" for _, words in linked_in_words(machine.links(plan.gpu_sources))),
        f"limited by a control group to {limits}" if (limits := machine.limits()) else "",
        f"variables: {', '.join(map(str, variables))}" if (variables := session.surroundings.variables) else "",
        f"software: {', '.join(f'{name} {version}' for name, version in session.software.items())}",
    ]
    for line in lines:
        if line:
            screen.print(Text(one_line(line, 1000)))
    if session.error:
        screen.print(Text(one_line(session.error, 600), style="red"))
    screen.print()
    if (server := server_figures(folder)) is not None:
        print_server(screen, server, plan)
        screen.print()
    print_comparison(screen, comparison)
    for run in _failed(folder):
        again = " It was run again since." if run["again"] else ""
        failed = f"{run['method']}, block {run['block']}: {run['status']}: {run['error']}{again}"
        screen.print()
        screen.print(Text(one_line(failed, 800), style="dim" if again else ""))
        for line in () if again else run["log_tail"] or ():
            screen.print(Text(f"  {one_line(line, 300)}", style="dim"))
    screen.print(Text(f"\n{plain(folder.place)}"), soft_wrap=True)
    return EXIT_OK


def compare(options: argparse.Namespace) -> int:
    """Methods and sessions side by side."""
    from sessions.verdict.comparison import COMPARED_FILES
    from sessions.verdict.load_row import LoadRow
    from sessions.verdict.table_choice import TableChoice

    try:
        named = [name.strip() for name in (options.columns or "").split(",") if name.strip()]
        choice = TableChoice.of(named, (options.sort or "").strip())
    except ValueError as error:
        raise UsageError(one_line(str(error), 300)) from None
    store = all_sessions(options.store)
    picks, readable = [], False
    store.fetch((pick.partition(":")[0] for pick in options.picks), ("plan.json", *COMPARED_FILES))
    for pick in options.picks:
        session, _, method = pick.partition(":")
        folder = find(session, store)
        try:
            folder, _ = _opened(session, store)
            known = [planned.name for planned in _plan_methods(folder)]
        except UsageError as error:  # the others stand
            sys.stderr.write(f"kasoku: {one_line(str(error), 600)}\n")
            picks.append((folder.id, method or None))
            continue
        if method and method not in known:
            raise UsageError(f"{folder.id} has no method {method!r}: choose from {', '.join(known)}.")
        readable = True
        picks.append((folder.id, method or None))
    if not readable:
        return EXIT_USAGE
    comparison = _compared(store, picks, options.baseline, options.anyway, options.slo)
    if options.slo is not None and not any(isinstance(row, LoadRow) for row in comparison.rows):
        sys.stderr.write("kasoku: --slo says nothing here: none of these sessions was measured under load.\n")
    there = {column.key for column in comparison.columns.data}
    if lost := [key for key in (*choice.columns, choice.sort) if key and key not in there]:
        raise UsageError(f"None of these sessions was measured under load, and only loads have {', '.join(lost)}.")
    if options.csv:
        from sessions.export.csv_export import ExportError, write_comparison_csv

        try:
            path = write_comparison_csv(comparison, Path(options.csv), excel=options.excel, choice=choice)
        except ExportError as error:
            raise UsageError(str(error)) from None
        sys.stderr.write(f"Written to {plain(str(path))}\n")
    if options.json:
        from sessions.export.csv_export import comparison_rows

        _document(comparison_rows(comparison, choice))
    else:
        from tui.print.console import console
        from tui.print.result_table import print_comparison

        print_comparison(console(), comparison, choice)
    if options.at_most_loss is not None:
        from sessions.verdict.at_most_loss import sentence

        said = one_line(sentence(comparison.rows, options.at_most_loss), 600)
        (sys.stderr if options.json else sys.stdout).write(f"{said}\n")  # stdout then is one document
    return EXIT_OK


def export(options: argparse.Namespace) -> int:
    """A session's frames as CSV files."""
    from sessions.export.csv_export import ExportError, export_session

    try:
        folder, _ = _opened(options.session, all_sessions(options.store))
        frames = export_session(folder, Path(options.out), excel=options.excel)
    except (ExportError, SessionError) as error:
        raise UsageError(str(error)) from None
    sys.stdout.write("".join(f"{plain(str(frame.path))}\n" for frame in frames))
    sys.stderr.write("".join(f"kasoku: {frame.notice}\n" for frame in frames if frame.notice))
    return EXIT_OK


def _compared(
    store: Store, picks: list[tuple[str, str | None]], baseline: str | None, anyway: bool, slo: Slo | None = None
) -> Comparison:
    from sessions.verdict.comparison import ComparisonError
    from sessions.verdict.comparison import compare as compare_sessions

    try:
        return compare_sessions(store, picks, baseline, anyway, slo=slo)
    except (ComparisonError, SessionError) as error:
        raise UsageError(str(error)) from None


def _plan_methods(folder: SessionFolder) -> list[Any]:
    try:
        return list(folder.plan().methods)
    except SessionError as error:
        raise UsageError(str(error)) from None


def _failed(folder: SessionFolder) -> list[FrameRow]:
    from sessions.frames.counting import failed_attempts

    runs = _runs(folder)
    return failed_attempts(runs).to_dicts() if runs is not None else []


def _runs(folder: SessionFolder) -> pl.DataFrame | None:
    from sessions.disk.frame_schema import FrameError, read_frame

    try:
        return read_frame(folder.frame("runs"), "runs")
    except FrameError:
        return None


def _builtins(value: object) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def _document(document: object) -> None:
    sys.stdout.write(json_document(document))
