"""The pictures of the README, made from a real session: `make pictures` writes docs/pictures/run.svg and compare.svg.

    python benchmarks/pictures.py [--session SESSION] [--size 120x36] [--out docs/pictures]

Without --session the recording of `kasoku --demo` is taken. The Run screen is a replay of its journal, held in the
middle of a request of its last block; the Compare screen shows all of its methods.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from methods.base.home import config_folder, home  # noqa: E402 - the checkout is put on the path first
from sessions.disk.session_folder import SessionError, SessionFolder  # noqa: E402
from sessions.disk.store import Store  # noqa: E402
from tui.app import Workbench  # noqa: E402
from tui.read.demo import DemoError, unpack  # noqa: E402
from tui.screens.compare import CompareScreen  # noqa: E402
from tui.screens.run import RunScreen  # noqa: E402

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
        await until(lambda: isinstance(app.screen, RunScreen) and app.screen.live is not None, "the replay")
        screen = app.screen
        assert isinstance(screen, RunScreen)
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
        for name, draw in (("run", run_picture), ("compare", compare_picture)):
            svg = self_contained(asyncio.run(draw(folder, (columns, rows))))
            (options.out / f"{name}.svg").write_text(svg, encoding="utf-8")
            print(f"{options.out / name}.svg from session {folder.id}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
