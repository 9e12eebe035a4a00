"""A recording of a run for `asciinema play`: `make pictures` writes docs/pictures/run.cast.

    python benchmarks/recording.py [--seconds 40] [--size 100x30] [--out docs/pictures/run.cast]

It is what `kasoku --demo`, the whole workbench in a pseudo-terminal, writes until it is told to quit: an asciinema v2
file, one line for all that came within a tenth of a second.
"""

from __future__ import annotations

import argparse
import codecs
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.tui.terminal import Terminal  # noqa: E402 - the checkout is put on the path first

KASOKU = [sys.executable, "-c", "from tui.command_line import main; raise SystemExit(main())"]
TOGETHER_S = 0.1
START_S, END_S = 60.0, 60.0
RACING = "tokens/s over time"


def recorded(size: tuple[int, int], seconds: float) -> tuple[float, Sequence[tuple[float, bytes]]]:
    """When the program began, and what it wrote with the moment of each piece: until the race was shown so long."""
    with tempfile.TemporaryDirectory() as spare:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(ROOT),
            "HOME": spare,
            "KASOKU_HOME": spare,
            "KASOKU_CONFIG": spare,
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        terminal = Terminal(*size)
        terminal.start([*KASOKU, "--demo"], environment)
        terminal.wait_for(lambda text: RACING in text, START_S, "the race")
        time.sleep(seconds)
        terminal.press(b"q")
        terminal.wait_until_ended(END_S)
        return terminal.began, list(terminal.chunks)


def lines(size: tuple[int, int], began: float, chunks: Sequence[tuple[float, bytes]]) -> Iterator[str]:
    """The file's lines: its header, then what was written as [seconds, "o", text]."""
    yield json.dumps({"version": 2, "width": size[0], "height": size[1], "title": "kasoku --demo"})
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    first, text = 0.0, ""
    for at, chunk in chunks:
        if text and at - began - first > TOGETHER_S:
            yield json.dumps([round(first, 2), "o", text], ensure_ascii=False)
            text = ""
        first = first if text else at - began
        text += decoder.decode(chunk)
    if text:
        yield json.dumps([round(first, 2), "o", text], ensure_ascii=False)


def main() -> int:
    """Parse the command line, record, say what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--size", default="100x30")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures" / "run.cast")
    options = parser.parse_args()
    columns, rows = (int(part) for part in options.size.split("x"))
    began, chunks = recorded((columns, rows), options.seconds)
    text = "".join(f"{line}\n" for line in lines((columns, rows), began, chunks))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    print(f"{options.out}: {len(text.encode()) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
