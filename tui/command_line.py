"""`kasoku`: the command line. Parsing imports nothing heavy; each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from sessions.disk import extension
from sessions.disk.option_table import table
from sessions.disk.options import RunOptions
from sessions.disk.slo import Slo
from tui.option_arguments import add_options
from tui.print.output_encoding import use_what_stdout_and_stderr_have

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

STORE_VARIABLE = "KASOKU_STORE"
WORKBENCH = "tui.commands.workbench:open_workbench"
EXIT_OK, EXIT_METHOD_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
EXCEL_HELP = "with a byte order mark (BOM), so that Excel reads the CSV as UTF-8"
PORT = 8765  # of `serve`
CALIBRATED_PARTS = ("runner", "telemetry", "viewer", "app", "slow-link")  # as `calibrate --only` calls them
MOST_LOSS = 100  # nats a token
CALIBRATE_TAKES = ("model", "max_new_tokens", "device", "threads")  # of the options of a run, as they are


class UsageError(Exception):
    """The request is invalid; the message is the one line for stderr."""


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, without the usage text, and a help text that cannot be written as one."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]} (see `{self.prog} --help`)")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own keeps silent about a full disk


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    return in_sentences(lambda: _carry_out(list(sys.argv[1:] if argv is None else argv)))


def in_sentences(work: Callable[[], int]) -> int:
    """The exit code of the work, or of what goes wrong with it, which is said on stderr."""
    use_what_stdout_and_stderr_have()
    try:
        return work()
    except UsageError as error:
        _say(str(error))
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, `head` say, has seen enough
        _give_up_stdout()
        return EXIT_OK
    except (OSError, MemoryError, ImportError) as error:  # a disk that is full, a terminal that is gone
        from methods.base.refusal import refusal

        _give_up_stdout()
        _say(refusal(error))
        return EXIT_METHOD_FAILED
    except Exception as error:
        if (sentence := _about_a_path(error)) is not None:
            _say(sentence)
            return EXIT_USAGE
        return _unexpected(error)


def _about_a_path(error: Exception) -> str | None:
    """The sentence of an error about the home, a path that the user named, or a session; any command can meet one."""
    from methods.base.user_path import PathError
    from sessions.disk.session_folder import SessionError

    return str(error) if isinstance(error, PathError | SessionError) else None


def _carry_out(arguments: list[str]) -> int:
    try:
        options = parser().parse_args(arguments)
        options.argv = arguments
        options.store = getattr(options, "store", None)
        if options.demo and options.command != WORKBENCH:
            raise UsageError(
                "--demo stands alone: it plays the built-in recording in the workbench, as `kasoku --demo`."
            )
        module, _, function = options.command.partition(":")
        return int(getattr(importlib.import_module(module), function)(options))
    finally:
        sys.stdout.flush()  # here, where what is wrong with it can still be told


def _give_up_stdout() -> None:
    """Throw away what stdout still holds, which could not be written at the interpreter's end either."""
    with contextlib.suppress(OSError, ValueError):  # a stream of a test's has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _say(sentence: str) -> None:
    from tui.words.terminal_text import one_line

    with contextlib.suppress(OSError):  # the exit code says it too
        sys.stderr.write(f"kasoku: {one_line(sentence, 600)}\n")


def _unexpected(error: Exception) -> int:
    """Our own bug: a sentence for the user, the traceback in a file for the bug report."""
    import tempfile
    import traceback

    details = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile("w", prefix="kasoku-error-", suffix=".log", delete=False) as report:
            report.write(details)
        where = f"the details are in {report.name}"
    except OSError:
        where = f"it was at {details.rstrip().splitlines()[-3].strip()}"
    _say(f"Kasoku itself failed ({type(error).__name__}: {error}); {where}: please report them.")
    return EXIT_METHOD_FAILED


def parser() -> argparse.ArgumentParser:
    """The parser of everything after `kasoku`."""
    root = _Parser(
        prog="kasoku",
        description="Measures which way of running a local LLM is fastest on this machine, by how much, and with what"
        " confidence. Without a command it opens the workbench.",
    )
    root.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    root.add_argument("--demo", action="store_true", help="play a recorded session in the workbench, to look around")
    _add_store(root)
    root.set_defaults(command=WORKBENCH)
    commands = root.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    _add_run(commands.add_parser("run", help="measure: run methods on a model and compare them"))
    for name, target, text in (
        ("attach", "tui.commands.watch:attach", "follow a running session"),
        ("stop", "tui.commands.steer:stop", "stop a running session; what was measured is saved"),
        ("resume", "tui.commands.steer:resume", "run the missing blocks of a session, or more than it was to have"),
        ("replay", "tui.commands.watch:replay", "replay a saved session in the live view"),
    ):
        one = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        optional = name in ("attach", "stop")
        one.add_argument("session", nargs="?" if optional else None, help="its ID, the start or end of it, or last")
        if name == "replay":
            _add_store(one)
            one.add_argument("--speed", type=float, default=1.0, help="speed factor (default 1)")
        if name in ("attach", "resume"):
            _add_hosts(one, "where its host is now, if that is in another Ray cluster, or found by something else")
        if name == "resume":
            add_options(one, extension.options())
            one.add_argument("--detach", action="store_true", help="do not follow it")
            one.add_argument("--anyway", action="store_true", help="even if its plan was not made here")
        one.set_defaults(command=target)
    _add_sessions(commands)
    _add_things(commands)
    return root


class _Version(argparse.Action):
    """Looks up the version only on request: that takes longer than all other parsing."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        try:
            version = metadata.version("kasoku")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        sys.stdout.write(f"kasoku {version}\n")
        parser.exit()


def _add_run(run: argparse.ArgumentParser) -> None:
    run.description = "Run methods on a model in interleaved blocks, each a fresh process, and compare them."
    run.add_argument("--method", action="append", default=[], metavar="M", help="a method; repeatable")
    add_options(run, table(RunOptions))
    _add_hosts(run, "measure on other hosts of a Ray cluster, a session on each")
    run.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
    run.add_argument("--detach", action="store_true", help="start the session and return")
    run.set_defaults(command="tui.commands.run:run")


def _add_hosts(command: argparse.ArgumentParser, text: str) -> None:
    """`--on` and `--host`; `text` says what they are for."""
    command.add_argument("--on", metavar="ray://HEAD:PORT", help=text)
    command.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME=RESOURCE",
        help="with --on: a host, by a resource that it alone has; repeatable (default: the [hosts] in settings.toml)",
    )


def _add_sessions(commands: argparse._SubParsersAction[_Parser]) -> None:
    sessions = commands.add_parser("sessions", help="list the saved sessions")
    sessions.add_argument("--json", action="store_true")
    _add_store(sessions)
    sessions.set_defaults(command="tui.commands.sessions:sessions")
    show = commands.add_parser("show", help="one session in full")
    show.add_argument("session")
    show.add_argument(
        "--as",
        dest="tool",
        metavar="TOOL",
        help="in the terms of vllm, guidellm, aiperf, genai-bench, llama-bench, optimum-benchmark; or article: its"
        " tables",
    )
    show.add_argument("--json", action="store_true")
    _add_store(show)
    show.set_defaults(command="tui.commands.sessions:show")
    compare = commands.add_parser("compare", help="methods and sessions side by side")
    compare.add_argument("picks", nargs="+", metavar="SESSION[:METHOD]")
    compare.add_argument("--baseline", metavar="METHOD", help="the reference for all rows")
    compare.add_argument("--anyway", action="store_true", help="even if model, prompt or settings differ")
    compare.add_argument(
        "--at-most-loss", type=_loss, metavar="NATS", help="name the fastest method that loses at most so much a token"
    )
    compare.add_argument("--slo", type=_slo, metavar="BOUNDS", help="under load: goodput within ttft:200ms,tpot:50ms")
    compare.add_argument(
        "--columns", metavar="A,B,…", help="show and write these result columns only (docs/definitions.md has all)"
    )
    compare.add_argument("--sort", metavar="COLUMN[:desc]", help="sort the rows by a result column")
    compare.add_argument("--csv", metavar="FILE", help="also write the table to FILE")
    compare.add_argument("--excel", action="store_true", help=EXCEL_HELP)
    compare.add_argument("--json", action="store_true")
    _add_store(compare)
    compare.set_defaults(command="tui.commands.sessions:compare")
    report = commands.add_parser("report", help="one page with tables and plots")
    report.add_argument("sessions", nargs="+", metavar="SESSION")
    report.add_argument("--out", required=True, metavar="FILE", help="a name ending in .html or .md")
    _add_store(report)
    report.set_defaults(command="tui.commands.report:report")
    export = commands.add_parser("export", help="a session's frames as CSV")
    export.add_argument("session")
    export.add_argument("--out", required=True, metavar="FOLDER")
    export.add_argument("--excel", action="store_true", help=EXCEL_HELP)
    _add_store(export)
    export.set_defaults(command="tui.commands.sessions:export")
    publish = commands.add_parser("publish", help="copy finished sessions to the team's store")
    publish.description = "Copy finished sessions, whole and checked, to a folder or bucket that a team shares."
    publish.add_argument("sessions", nargs="+", metavar="SESSION")
    _add_store(publish)
    publish.set_defaults(command="tui.commands.publish:publish")


def _add_store(command: argparse.ArgumentParser) -> None:
    """The team's store; one named before the command holds for it too."""
    command.add_argument(
        "--store",
        default=argparse.SUPPRESS,
        metavar="URL",
        help=f"the team's store beside your sessions: a folder or s3://BUCKET/PREFIX (default ${STORE_VARIABLE})",
    )


def _loss(text: str) -> float:
    """A loss in nats a token. Raises argparse.ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of nats a token, such as 0.01") from None
    if not 0 <= value <= MOST_LOSS:
        raise argparse.ArgumentTypeError(
            f"{text} is out of range: use nats a token from 0 to {MOST_LOSS}, such as 0.01"
        )
    return value


def _within(least: int, most: int, what: str) -> Callable[[str], int]:
    """The reader of a whole number, which raises argparse.ArgumentTypeError."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {least} to {most:,}")
        return int(text)

    return read


def _slo(text: str) -> Slo:
    """Bounds of latencies. Raises argparse.ArgumentTypeError."""
    try:
        return Slo.of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_things(commands: argparse._SubParsersAction[_Parser]) -> None:
    methods = commands.add_parser("methods", help="list the methods and whether they can run here")
    methods.add_argument("--json", action="store_true")
    methods.set_defaults(command="tui.commands.catalogue:methods")
    servers = commands.add_parser("servers", help="list the servers on this machine's usual ports and their models")
    servers.add_argument("--json", action="store_true")
    servers.set_defaults(command="tui.commands.servers:servers")
    serve = commands.add_parser("serve", help="the workbench in a browser of this machine")
    serve.add_argument("--port", type=_within(1, 65_535, "a port"), default=PORT, help=f"where it listens ({PORT})")
    serve.add_argument("--host", default="127.0.0.1", help="127.0.0.1 (default), localhost or ::1")
    serve.add_argument(
        "--sessions",
        type=_within(1, 16, "a number of workbenches"),
        default=2,
        metavar="N",
        help="workbenches open at once (2)",
    )
    serve.add_argument("--demo", dest="recording", action="store_true", help="play a recorded session in them")
    serve.set_defaults(command="tui.commands.serve:serve")
    env = commands.add_parser("env", help="the environments that methods run in").add_subparsers(
        metavar="list|create|use|remove", required=True, parser_class=_Parser
    )
    listing = env.add_parser("list", help="list them")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(command="tui.commands.environments:list_environments")
    create = env.add_parser("create", help="create one with uv")
    create.add_argument("name")
    create.add_argument("--backend", default="auto", help="torch's build: auto, cpu, cuda, or uv's name for it (cu126)")
    create.set_defaults(command="tui.commands.environments:create")
    use = env.add_parser("use", help="point one at a Python of yours")
    use.add_argument("name")
    use.add_argument("python")
    use.add_argument("--path", action="append", default=[], metavar="FOLDER", help="prepended to its module path")
    use.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE", help="set for its processes")
    use.set_defaults(command="tui.commands.environments:use")
    remove = env.add_parser("remove", help="delete one, or undo `use`")
    remove.add_argument("name")
    remove.set_defaults(command="tui.commands.environments:remove")
    models = commands.add_parser("models", help="the models that are ready").add_subparsers(
        metavar="list|fetch", required=True, parser_class=_Parser
    )
    ready = models.add_parser("list", help="list them")
    ready.add_argument("--json", action="store_true")
    ready.set_defaults(command="tui.commands.models:list_models")
    fetch = models.add_parser("fetch", help="fetch and convert one")
    fetch.add_argument("model")
    fetch.set_defaults(command="tui.commands.models:fetch")
    calibrate = commands.add_parser("calibrate", help="measure what the workbench costs a method's tokens/s")
    calibrate.add_argument("method", nargs="?")
    calibrate.add_argument(
        "--fidelity", action="store_true", help="instead: the loss that rounding alone makes, for `compare`"
    )
    calibrate.add_argument("--blocks", type=int, default=3, metavar="B", help="fresh processes (3)")
    calibrate.add_argument(
        "--rounds", type=int, default=10, metavar="R", help="rounds of all conditions per process (10)"
    )
    calibrate.add_argument("--warmup", type=int, default=2, metavar="N", help="warm-up responses per process (2)")
    calibrate.add_argument(
        "--concurrency", type=int, metavar="C", help="with so many requests always in flight (default: one at a time)"
    )
    calibrate.add_argument(
        "--neighbours",
        type=int,
        metavar="N",
        help="instead: what N rounds at once (run --spread) cost each other, alone against with N-1 beside it",
    )
    add_options(calibrate, [option for option in table(RunOptions) if option.name in CALIBRATE_TAKES])
    calibrate.add_argument(
        "--only",
        action="append",
        default=[],
        choices=CALIBRATED_PARTS,
        help="spend the rounds on this part of the workbench (repeatable; default: all but the slow link)",
    )
    calibrate.add_argument("--json", action="store_true")
    calibrate.set_defaults(command="tui.commands.calibrate:calibrate")
    doctor = commands.add_parser("doctor", help="check this machine for what disturbs measurements")
    _add_hosts(doctor, "check other hosts of a Ray cluster, and what each can run")
    doctor.add_argument(
        "--create-environments",
        nargs="*",
        metavar="NAME",
        help="with --on: create these where a host lacks them; without a name, all that the presets need there",
    )
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(command="tui.commands.doctor:doctor")
