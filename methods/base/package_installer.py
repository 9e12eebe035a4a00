"""Running uv: given pip's settings, its output passed on line by line, killed when the work is stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from methods.base import pip_settings
from methods.base.progress import Progress, Report
from methods.base.warded_process import WardedProcess

TAIL_LINES = 12
LONGEST_CAUSE = 400
LONGEST_LINE_BYTES = 1 << 20


class PackageInstaller:
    """uv, run in `folder`, reporting as `phase`."""

    def __init__(self, folder: Path, phase: str, report: Report, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.phase = phase
        self.report = report
        self.environ = {
            name: value for name, value in environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH")
        }
        self.environ.update(pip_settings.for_uv(environ))
        self.environ.update(NO_COLOR="1", UV_NO_PROGRESS="1")
        self.find_links = pip_settings.find_links(environ)

    def say(self, detail: str) -> None:
        self.report(Progress(self.phase, detail))

    def __call__(self, *arguments: str) -> tuple[int | None, str]:
        """Run uv, and give back its exit status (None: a signal ended it) and its last lines."""
        import uv

        tail: deque[str] = deque(maxlen=TAIL_LINES)
        latest = "starting uv"
        with closing(
            WardedProcess([uv.find_uv_bin(), *arguments], None, self.environ, self.folder, LONGEST_LINE_BYTES)
        ) as process:
            for line in process.lines_to_the_end():
                if line is not None and line.strip():
                    latest = _without_secrets(line.decode(errors="replace").strip())
                    tail.append(latest)
                self.say(latest)
        return process.end.exit if process.end else None, "\n".join(tail)


def cause(said: str) -> str:
    """uv's error and the root cause it reports, as the end of a sentence."""
    parts: list[str] = []
    lines = [line.strip(" ×╰─▶│·") for line in said.splitlines()]
    first = next((at for at, words in enumerate(lines) if words.startswith("error:")), 0)
    for words in lines[first:]:
        if words.startswith(("error:", "cause:")) or not parts:
            parts.append(words.removeprefix("error:").removeprefix("cause:").strip())
        elif words:
            parts[-1] += " " + words
    text = (": ".join(dict.fromkeys((parts[0], parts[-1]))) if parts else "it said nothing").rstrip(".")
    return text[:LONGEST_CAUSE] + ("…" if len(text) > LONGEST_CAUSE else ".")


def _without_secrets(line: str) -> str:
    """A line with the user information of addresses (`//user:password@`) taken out."""
    head, *rest = line.split("://")
    kept = [head]
    for part in rest:
        address, space, tail = part.partition(" ")
        host, slash, path = address.partition("/")
        kept.append(host.rpartition("@")[2] + slash + path + space + tail)
    return "://".join(kept)
