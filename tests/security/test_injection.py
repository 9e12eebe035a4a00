"""Text of any origin is shown, and nowhere obeyed: by terminals, Textual's markup, browsers, Markdown, spreadsheets."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from markdown_it import MarkdownIt

from sessions.disk.session_folder import FRAMES, SessionFolder
from sessions.disk.store import Store
from sessions.export.csv_export import SHIELDED
from sessions.export.report import make_report
from tests.security.hostile_session import FORMULAS, HOSTILE, MARKUP, hostile
from tests.sessions.workplace import KASOKU, Workplace
from tests.tui.conftest import workbench
from tests.tui.journals import write_session
from tests.tui.screen_text import screen_text, settled, until
from tests.tui.terminal import Terminal
from tui.print.report_page import page
from tui.words.terminal_text import CONTROL, json_document, one_line, plain, printable

HARMLESS, ID = "20260225-060000-aaaaaa", "20260225-070000-bbbbbb"
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("sessions",),
    ("sessions", "--json"),
    ("show", ID),
    ("show", ID, "--json"),
    ("show", ID, "--as", "vllm"),
    ("show", ID, "--as", "vllm", "--json"),
    ("compare", ID),
    ("compare", ID, "--json"),
    ("compare", ID, HARMLESS, "--anyway"),
    ("compare", f"{ID}:{HOSTILE}"),
    ("replay", ID, "--speed", "100000"),
    ("attach", ID),
    ("resume", ID),
    ("stop", ID),
    ("show", HOSTILE),
    ("run", "--method", HOSTILE),
    ("run", "--model", HOSTILE),
    ("env", "create", HOSTILE),
    ("env", "use", "torch", HOSTILE),
    ("models", "fetch", f"./{HOSTILE}"),
    (HOSTILE,),
    ("methods",),
    ("methods", "--json"),
    ("env", "list"),
    ("env", "list", "--json"),
    ("models", "list"),
    ("models", "list", "--json"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a hostile session and a harmless one, and hostile files of the user's in its config folder."""
    home = tmp_path_factory.mktemp("hostile") / "home"
    home.mkdir(mode=0o700)
    hostile(home, ID)
    write_session(home, session=HARMLESS)
    config = home / "config"
    (config / "methods").mkdir(parents=True)
    text = json.dumps(HOSTILE).replace("\x7f", "\\u007f")  # which TOML wants written so
    (config / "methods" / "one.toml").write_text(
        f'[methods.mine]\nsummary = {text}\nengine = {text}\nreference = "baseline"\ndiffers = {text}\n'
        f"environments = {{ cpu = {text} }}\n[methods.mine.options]\nx = {text}\n"
    )
    (config / "methods" / f"broken{HOSTILE.replace('/', '')[:60]}.toml").write_text("[")
    (config / "environments").mkdir()
    (config / "environments" / "one.toml").write_text(f"[mine]\npurpose = {text}\nrequirements = [{text}]\n")
    for name in (f".making-{HOSTILE.replace('/', '')[:60]}-abc", "whole"):
        (home / "environments" / name).mkdir(parents=True)
        (home / "models" / name).mkdir(parents=True)
    (home / "models" / "whole" / "kasoku-model.json").write_text(json.dumps({"schema": 1, "spec": HOSTILE}))
    return home


@pytest.fixture
def home(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KASOKU_HOME", str(made))
    monkeypatch.setenv("KASOKU_CONFIG", str(made / "config"))
    return made


# Terminals


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: ascii(" ".join(words)[:40]))
def test_no_command_prints_a_control_character(home: Path, command: tuple[str, ...]) -> None:
    """The same texts go to a terminal, with nothing of ours around them but colours."""
    said = Workplace.command(*command)
    for text in (said.out, said.err):
        found = CONTROL.search(text)
        assert found is None, text[max(0, found.start() - 60) : found.end() + 60].encode("unicode_escape")
        assert "Traceback" not in text
    if "--json" in command:
        json.loads(said.out)


def test_json_keeps_the_value_and_hides_it_from_the_terminal(home: Path) -> None:
    value = {HOSTILE: [HOSTILE, "猫🙂\n\t", "\ud800"]}
    document = json_document(value)
    assert json.loads(document) == value
    assert "猫🙂" in document
    assert not CONTROL.search(document)
    session = json.loads(Workplace.command("show", ID, "--json").out)["session"]
    assert session["error"] == HOSTILE


def test_a_replay_on_a_real_terminal_sends_nothing_of_the_sessions(home: Path) -> None:
    opened = Terminal(120, 30)
    opened.start([str(KASOKU), "replay", ID, "--speed", "50"], {**os.environ, "TERM": "xterm-256color"})
    try:
        opened.wait_until_ended(60)
    finally:
        if opened.status is None:
            opened.hang_up()
    assert_harmless_bytes(b"".join(chunk for _, chunk in opened.chunks))


def assert_harmless_bytes(written: bytes) -> None:
    """What a terminal got has none of the session's sequences in it."""
    for sequence in (b"\x1b]0;", b"\x1b[6n", b"\xc2\x9b", b"\x08", "\u202e".encode(), "\u061c".encode(), b"\x7f"):
        assert sequence not in written, written[max(0, written.find(sequence) - 100) :][:200]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a�[31mb"),
        ("a\x9bb\x90c\x85d", "a�b�c�d"),
        ("a\u202eb\u2066c\u200fd\u061ce", "a�b�c�d�e"),
        ("a\r\nb\rc", "a\nb�c"),
        ("\udcff\ud83d", "��"),
        ("猫🙂👩‍👩‍👧é\tx\ny", "猫🙂👩‍👩‍👧é\tx\ny"),
        ("\u2028\u2029", "��"),
    ],
)
def test_what_plain_shows(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert one_line(text).encode()
    assert printable(text) == re.sub("[\n\t]+", " ", CONTROL.sub("�", text))


# The app


async def test_no_screen_shows_a_control_character_or_takes_markup(home: Path) -> None:
    """Through all screens with the hostile session in each; what Textual would send is in the strips."""
    app = workbench(home, watch=ID, replay=True)
    shown: dict[str, str] = {}
    async with app.run_test(size=(150, 50)) as pilot:
        for name, keys in (
            ("replay", ""),
            ("sessions", "2"),
            ("session", "enter"),
            ("session runs", "right"),
            ("session requests", "right"),
            ("session timeline", "right"),
            ("rename", "escape n"),
            ("compare", "escape 3"),
            ("methods", "4"),
            ("environments", "right"),
        ):
            await pilot.press(*keys.split())
            if name == "replay":  # which moves
                shown[name] = await until(pilot, lambda text: "tok/s now" in text, "the replay")
            else:
                shown[name] = await settled(pilot)
        app.notify(HOSTILE, title=HOSTILE)
        await pilot.pause()
        shown["notification"] = screen_text(app)
    for name, text in shown.items():
        found = CONTROL.search(text)
        assert found is None, (name, text[max(0, found.start() - 60) : found.end() + 60].encode("unicode_escape"))
    everything = "\n".join(shown.values())
    assert MARKUP[:12] in everything, "markup is shown as it is"
    for name in ("session", "session runs", "notification"):
        assert "[blink]" in shown[name], shown[name]


def test_the_app_in_a_real_terminal_sends_nothing_of_the_sessions(home: Path) -> None:
    opened = Terminal(150, 45)
    opened.start([str(KASOKU)], {**os.environ, "TERM": "xterm-256color"})
    try:
        opened.wait_for(lambda text: "1 run" in text, 40, "the app")
        opened.press_each(b"2")
        opened.wait_for(lambda text: "2 sessions" in text, 60, "the list")
        opened.press_each(b"\x1b[B", b"\r", b"\x1b[C", b"\x1b[C", b"3", b"4", b"2", b"p")
        opened.press_each(b"q")
    finally:
        if opened.status is None:
            opened.hang_up()
    assert_harmless_bytes(b"".join(chunk for _, chunk in opened.chunks))


# Pages


class Tags(HTMLParser):
    """Every tag with the names of its attributes, and what stands between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def pages(made: Path) -> dict[str, str]:
    """The hostile session's page, a harmless one's, and both in Markdown."""
    store = Store(made / "sessions")
    hostile_one = make_report(store, [ID])
    return {
        "html": page(hostile_one, "html"),
        "usual": page(make_report(store, [HARMLESS]), "html"),
        "md": page(hostile_one, "md"),
    }


def test_a_page_has_no_tag_that_a_harmless_one_has_not(pages: dict[str, str]) -> None:
    seen, usual = Tags(pages["html"]), Tags(pages["usual"])
    allowed = {tag for tag, _ in usual.tags} | {"div", "br", "tspan"}
    assert {tag for tag, _ in seen.tags} <= allowed
    assert not {tag for tag, _ in seen.tags} & {"script", "img", "iframe", "a", "object", "base", "link"}
    assert not [name for _, names in seen.tags for name in names if name.startswith("on")]
    assert seen.addresses == []
    assert "<script>alert(1)</script>" in seen.text, "it is shown"
    assert not CONTROL.search(pages["html"])


def test_a_page_forbids_every_load(pages: dict[str, str]) -> None:
    text = pages["html"]
    assert "Content-Security-Policy" in text
    assert "default-src 'none'" in text
    assert Counter(tag for tag, _ in Tags(text).tags)["meta"] == 3


def test_markdown_has_no_html_no_link_and_no_picture_from_elsewhere(pages: dict[str, str]) -> None:
    text = pages["md"]
    assert not CONTROL.search(text)
    parser = MarkdownIt("commonmark").enable("table")
    vars(parser)["validateLink"] = lambda _: True  # whatever a viewer may take
    tokens = list(walked(parser.parse(text)))
    assert {token.type for token in tokens} & {"fence", "heading_open", "table_open"}
    assert not [token.content[:80] for token in tokens if token.type in ("html_block", "html_inline", "link_open")]
    pictures = [str(token.attrs["src"]) for token in tokens if token.type == "image"]
    assert pictures
    assert all(source.startswith("data:image/svg+xml;base64,") for source in pictures)
    headings = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    assert len(headings) == len(re.findall(r"(?m)^#{1,3} ", re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", text)))


def walked(tokens: list[Any]) -> Iterator[Any]:
    for token in tokens:
        yield token
        yield from walked(token.children or [])


# Spreadsheets


@contextmanager
def exported(folder: SessionFolder, out: Path) -> Iterator[dict[str, list[dict[str, str]]]]:
    """The rows of the four files, as a program reads CSV."""
    assert Workplace.command("export", folder.id, "--out", str(out)).code == 0
    rows = {}
    for frame in FRAMES:
        with (out / f"{frame}.csv").open(newline="", encoding="utf-8") as file:
            rows[frame] = list(csv.DictReader(file))
    yield rows


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def restored(cell: str) -> str:
    """A text as it was: docs/security.md says so."""
    return cell[1:] if cell.startswith("'") else cell


def test_no_cell_of_an_export_is_a_formula_and_every_text_can_be_had_back(home: Path, tmp_path: Path) -> None:
    folder = SessionFolder(home / "sessions" / ID)
    with exported(folder, tmp_path / "csv") as rows:
        for frame in FRAMES:
            table = pl.read_parquet(folder.frame(frame))
            assert len(rows[frame]) == len(table)
            texts = {name for name, kind in table.schema.items() if kind == pl.String}
            numbers = {name for name, kind in table.schema.items() if kind.is_numeric()}
            for row, raw in zip(rows[frame], table.iter_rows(named=True), strict=True):
                for name, cell in row.items():
                    assert is_number(cell) or not cell.startswith(tuple(set(SHIELDED) - {"'"})), (frame, name, cell)
                for name in texts:
                    assert restored(row[name]) == (raw[name] or ""), (frame, name)
                for name in numbers:
                    assert not row[name].startswith("'")
        said = [row["text"] for row in rows["requests"]]
        assert set(map(restored, said)) == set(FORMULAS)
        assert "'=1+1" in said
        assert "''=1" in said, "an apostrophe of the text's own is told from ours"


def test_negative_numbers_stay_numbers(home: Path, tmp_path: Path) -> None:
    with exported(SessionFolder(home / "sessions" / HARMLESS), tmp_path / "csv") as rows:
        warmups = [row["request"] for row in rows["requests"] if row["warmup"] == "true"]
    assert warmups
    assert all(number == "-1" for number in warmups)


def test_a_comparisons_csv_is_shielded_too(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    folder = SessionFolder(home / "sessions" / ID)
    original = folder.read()
    try:
        runs = pl.read_parquet(folder.frame("runs"))
        runs.with_columns(error=pl.lit("=1+1"), in_effect_reason=pl.lit("@x")).write_parquet(folder.frame("runs"))
        said = Workplace.command("compare", ID, "--csv", str(target))
    finally:
        runs.write_parquet(folder.frame("runs"))
        folder.write(msgspec.structs.replace(original))
    assert said.code == 0, said.err
    with target.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert cells
    assert not [cell for cell in cells if not is_number(cell) and cell.startswith(("=", "+", "@", "\t", "\r", "-"))]


# File names


@pytest.mark.parametrize("command", [("doctor",), ("doctor", "--json"), ("env", "list"), ("models", "list")])
def test_a_folder_with_a_hostile_name_is_shown_and_not_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    name = "home\x1b]0;owned\x07\x9b6n[b]x[/b]"
    monkeypatch.setenv("KASOKU_HOME", str(tmp_path / name))
    monkeypatch.setenv("KASOKU_CONFIG", str(tmp_path / f"{name}-config"))
    said = Workplace.command(*command)
    assert not CONTROL.search(said.out + said.err)
    if command[0] == "doctor":
        assert "[b]x[/b]" in said.out


def test_a_path_that_is_no_utf8_is_a_sentence_and_no_traceback(home: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out\udcff")
    for command in (("export", HARMLESS, "--out", out), ("compare", HARMLESS, "--csv", f"{out}.csv")):
        said = Workplace.command(*command)
        assert said.code == 0, said.err
        said.out.encode()
        said.err.encode()
