"""README, docs, help and messages are worded as the field words them: none of the phrases that read as translated."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = ("tui", "sessions", "methods", "probes")
TRANSLATED: Final = (
    r"(?<!there )\b(is|are|was|were) no (?!(longer|more|less|faster|slower|worse|better)\b)[a-z]+",
    r"\bthe begin\b",
    r"\banew\b",
    r"\bless worthy\b",
    r"\b(mend|mends|mended)\b",
    r"\ball the same\b",
    r"\bdear (call|one|for)\b|\btoo dear\b",
    r"\bheld against\b",
    r"\bwould have it\b",
    r"\bended well\b",
    r"\bstands? beside\b",
    r"\bwithout a word\b",
    r"\b(cannot|can) be told\b(?! apart)",
    r"\bof nobody\b|\bnobody's\b",
    r"\bis to be\b",
)
PHRASE: Final = re.compile("|".join(f"(?:{phrase})" for phrase in TRANSLATED), re.IGNORECASE)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of what people read in a file: a page's lines, a module's string literals, a TOML file's strings."""
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value
    elif path.suffix == ".toml":
        yield from ((0, text) for text in strings(tomllib.loads(path.read_text(encoding="utf-8"))))
    else:
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), 1)


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def files() -> list[Path]:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    code = [path for room in ROOMS for kind in ("*.py", "*.toml") for path in (ROOT / room).rglob(kind)]
    return sorted([*pages, ROOT / "kasoku.py", *code])


def test_nothing_that_people_read_is_worded_as_a_translation() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match.group()!r}"
        for path in files()
        for line, text in texts(path)
        for match in PHRASE.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    ["it is no tokeniser.", "frames are compiled anew", "Mend it with `x`", "the dear call", "see them all the same"],
)
def test_a_translated_phrase_is_found(text: str) -> None:
    assert PHRASE.search(text)
