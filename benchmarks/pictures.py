"""Pictures of the screens, made from a real session: `make pictures` writes docs/pictures/SCREEN.svg for each.

    python benchmarks/pictures.py [--session SESSION] [--size 120x36] [--out docs/pictures]

Without --session the recording of `kasoku --demo` is taken. The Run screen is a replay of its journal, held in the
middle of a request of its last block; the Compare screen shows all of its methods. The form and Methods show what the
environments in Kasoku's home make possible here.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from textual.widgets import TabbedContent  # noqa: E402 - the checkout is put on the path first

from methods.base.home import ENVIRONMENTS, MODELS, config_folder, home  # noqa: E402
from sessions.disk.session_folder import SessionError, SessionFolder  # noqa: E402
from sessions.disk.store import Store  # noqa: E402
from tui.app import Workbench  # noqa: E402
from tui.read.demo import DemoError, unpack  # noqa: E402
from tui.screens.compare import CompareScreen  # noqa: E402
from tui.screens.method import MethodScreen  # noqa: E402
from tui.screens.run import RunScreen  # noqa: E402
from tui.screens.session import SessionScreen  # noqa: E402
from tui.widgets.row_list import RowList  # noqa: E402

DEADLINE_S = 300


def chosen(name: str | None, spare: Path) -> SessionFolder:
    """The session to show; the recording is unpacked into the spare folder. Raises SessionError, DemoError."""
    if name is None:
        return Store(spare / "sessions").folder(unpack(spare))
    return Store(home() / "sessions").folder(name)


async def until(true: Callable[[], object], what: str) -> None:
    """Wait for a condition; SystemExit after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"never saw {what}")
        await asyncio.sleep(0.02)


async def run_picture(folder: SessionFolder, size: tuple[int, int]) -> str:
    """The Run screen in the middle of a request of the last block."""
    app = Workbench(folder.path.parents[1], config_folder(), watch=folder.id, replay=True)
    async with app.run_test(size=size) as pilot:
        screen = app.screen
        assert isinstance(screen, RunScreen)
        await until(lambda: screen.live is not None and screen.watched is not None, "the replay")
        watch, view = screen.watched, screen.live
        assert watch is not None
        assert view is not None
        watch.change_speed(+10)
        plan = folder.plan()
        last = len(plan.order())

        def here() -> bool:
            shown = view.shown
            if shown is None:
                return False
            live = shown.live
            if live.position >= last - 1 and live.block_phase in ("load", "warmup"):
                watch.change_speed(-10)
                watch.change_speed(+3)
            half = plan.sampling.max_new_tokens // 2
            return live.position == last and not live.warmup and live.request is not None and live.tokens >= half

        await until(here, "the middle of the last block")
        watch.paused = True
        await pilot.pause(0.5)
        view.show_instruments(at_once=True)
        view.line.show_live(view.shown.live, plan)  # type: ignore[union-attr]
        await pilot.pause(0.5)
        return app.export_screenshot(title="kasoku")


async def compare_picture(folder: SessionFolder, size: tuple[int, int]) -> str:
    """The Compare screen with all methods of the session."""
    app = Workbench(folder.path.parents[1], config_folder())
    async with app.run_test(size=size) as pilot:
        await app.compare_sessions([folder.id])
        screen = app.screen
        assert isinstance(screen, CompareScreen)
        await until(lambda: screen.comparison is not None, "the comparison")
        await pilot.pause(1.0)
        return app.export_screenshot(title="kasoku")


async def form_picture(folder: SessionFolder, size: tuple[int, int]) -> str:
    """The first screen, once it knows what a run takes."""
    app = Workbench(folder.path.parents[1], config_folder())
    async with app.run_test(size=size) as pilot:
        screen = app.screen
        assert isinstance(screen, RunScreen)
        await until(lambda: screen.form.checked is not None, "the checked form")
        await until(lambda: screen.form.checked and screen.form.checked.expected is not None, "what a run takes")
        await until(lambda: "Last:" in app.export_screenshot(), "what was measured last")
        await pilot.pause(0.5)
        return app.export_screenshot(title="kasoku")


async def session_picture(folder: SessionFolder, size: tuple[int, int]) -> str:
    """The session's timeline."""
    app = Workbench(folder.path.parents[1], config_folder())
    async with app.run_test(size=size) as pilot:
        screen = SessionScreen(folder.id)
        await app.push_screen(screen)
        await until(lambda: screen.facts is not None, "the session")
        screen.query_one(TabbedContent).active = "timeline"
        await pilot.pause(1.0)
        return app.export_screenshot(title="kasoku")


async def method_picture(folder: SessionFolder, size: tuple[int, int]) -> str:
    """A method's page: the second one's, which has a ratio."""
    app = Workbench(folder.path.parents[1], config_folder())
    async with app.run_test(size=size) as pilot:
        screen = MethodScreen(folder.plan().methods[1].name)
        await app.push_screen(screen)
        await until(lambda: any(row.figures for row in screen.query_one(RowList).rows), "its figures")
        await pilot.pause(0.5)
        return app.export_screenshot(title="kasoku")


PICTURES = {
    "run": run_picture,
    "compare": compare_picture,
    "form": form_picture,
    "session": session_picture,
    "method": method_picture,
}


def lend_environments(spare: Path) -> None:
    """What Kasoku's home has of environments and models, in the home of the pictures too."""
    for name in (ENVIRONMENTS, MODELS):
        if os.path.isdir(home() / name):
            (spare / name).symlink_to(home() / name)


def self_contained(svg: str) -> str:
    """The same picture without the addresses of web fonts: the reader's own monospaced font is used.

    Its blanks are kept by renderers too that else drop those at the ends of a text, such as librsvg.
    """
    svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)
    svg = re.sub(r"@font-face\s*\{[^}]*\}", "", svg)
    return re.sub(r"font-family: ?[^;]*Fira Code[^;]*;", "font-family: monospace;", svg)


def main() -> int:
    """Parse the command line, draw, say what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--session")
    parser.add_argument("--size", default="120x36")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    options = parser.parse_args()
    columns, rows = (int(part) for part in options.size.split("x"))
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as spare:
        try:
            folder = chosen(options.session, Path(spare))
        except (SessionError, DemoError) as error:
            print(error, file=sys.stderr)
            return 1
        if options.session is None:
            lend_environments(Path(spare))
        for name, draw in PICTURES.items():
            svg = self_contained(asyncio.run(draw(folder, (columns, rows))))
            (options.out / f"{name}.svg").write_text(svg, encoding="utf-8")
            print(f"{options.out / name}.svg from session {folder.id}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
