from __future__ import annotations

import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import polars as pl
import pytest

from methods.models.models import Model
from probes.machine import Machine
from sessions.disk.journal import JournalWriter
from sessions.disk.plan import Plan, PlannedMethod
from sessions.disk.records import Prepared
from sessions.disk.sampling import Sampling
from sessions.disk.session_folder import SessionFolder
from sessions.disk.store import Store
from sessions.export.command import command_of
from sessions.export.report import make_report
from tests.verdicts.made_store import make_session
from tui.command_line import main, parser
from tui.print.report_page import ReportError, form_of, markdown, page

HOSTILE = "<script>alert(1)</script> ![x](http://a.b/c) **bold** | cell\n\n# head ``` \x1b[31m"
RATES = {"base": [100.0, 101.0, 99.0], "fast": [230.0, 233.0, 228.0]}


class Tags(HTMLParser):
    """Every tag with its attributes, and the text outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Store, SessionFolder]:
    """A session whose prompt, errors, evidence and names hold markup."""
    sessions = tmp_path / "home" / "sessions"
    run = {"fast": {"in_effect": False, "in_effect_reason": HOSTILE}}
    made = make_session(sessions, RATES, plan={"prompt": HOSTILE}, run=run, machine=Machine(cpu_model=HOSTILE))
    runs = pl.read_parquet(made.frame("runs"))
    runs.with_columns(error=pl.lit(HOSTILE), versions=pl.lit('{"torch": "<b>2</b>"}')).write_parquet(made.frame("runs"))
    made.write(msgspec.structs.replace(made.read(), error=HOSTILE))
    return Store(sessions), made


def test_html_is_one_page_that_loads_and_runs_nothing(hostile: tuple[Store, SessionFolder]) -> None:
    store, made = hostile
    text = page(make_report(store, [made.id]), "html")
    seen = Tags(text)
    assert not {tag for tag, _ in seen.tags} & {"script", "link", "img", "iframe", "object", "embed", "base", "b"}
    addresses = [value for _, attributes in seen.tags for name, value in attributes.items() if name in ("src", "href")]
    assert addresses == []
    assert not any(name.startswith("on") for _, attributes in seen.tags for name in attributes)
    assert "<script>alert(1)</script>" in seen.text
    assert "\x1b" not in text
    assert len([tag for tag, _ in seen.tags if tag == "svg"]) >= 3
    assert "2.30× faster" in seen.text
    assert "NO" in seen.text
    assert text.index("<svg") < text.index("Verdicts")  # one looks before one reads


def test_markdown_shows_markup_as_text(hostile: tuple[Store, SessionFolder]) -> None:
    store, made = hostile
    text = page(make_report(store, [made.id]), "md")
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", text)
    assert "<script" not in outside
    assert "](http" not in outside
    assert "**bold**" not in outside
    images = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", outside)
    assert images
    assert all(address.startswith("data:image/svg+xml;base64,") for address in images)
    headings = re.findall(r"(?m)^#+ .*$", outside)
    assert not any("head" in heading for heading in headings)
    rows = [line for line in outside.splitlines() if line.startswith(("| base", "| fast"))]
    (heading,) = [line for line in outside.splitlines() if line.startswith("| method")]
    assert heading.count("|") == 13  # no column for what none of them has: J/tok, MBU, DRAM and 1st diff.
    assert [line.count("|") for line in rows] == [13, 13, 3, 3]  # the table, and the software of each


@pytest.mark.parametrize("text", ["a|b", "*x*", "_x_", "`x`", "<b>", "[a](b)", "# h", "- x", "1. x", "&lt;", "~~x~~"])
def test_signs_of_markdown_are_written_as_references(text: str) -> None:
    import html

    written = markdown(text)
    assert written != text
    assert html.unescape(written) == text


def test_texts_part_side_by_side(tmp_path: Path, default_model: Model) -> None:
    """The greedy passes are decoded with the model's own tokeniser, up to the split and after it."""
    from methods.text.tokeniser import Tokeniser

    encode = Tokeniser(default_model.folder).encode
    ids = {"base": encode("The park is near the river"), "fast": encode("The park is near the <b>")}
    run = {name: {"evidence": msgspec.json.encode({"greedy": {"ids": own}}).decode()} for name, own in ids.items()}
    made = make_session(tmp_path / "sessions", RATES, run=run)
    journal = JournalWriter(made.path)
    journal.append(
        Prepared(
            t=0,
            model=default_model,
            prompts=[[1, 2]],
            prompt_text="Where is the park?",
            prompt_template=False,
            stop_token_ids=[],
            interpreters={},
            unavailable={},
        )
    )
    journal.close()
    report = make_report(Store(tmp_path / "sessions"), [made.id])
    (split,) = report.sessions[0].splits
    assert (split.method, split.reference) == ("fast", "base")
    assert (split.common or "").endswith("near the")
    assert (split.other or "").strip() == "river"
    assert "<b>" in (split.own or "")
    assert "&lt;b&gt;" in page(report, "html")
    assert report.sessions[0].prompt == "Where is the park?"


@pytest.mark.parametrize(
    "plan",
    [
        Plan(methods=[PlannedMethod(name="a", engine="e", environment="t")], prompt="-v; rm -rf $HOME 'x'", seed=5),
        Plan(
            prompt="今日は\n良い天気", template=False, preset="article", sampling=Sampling(stop_at_eos=True, top_p=0.95)
        ),
        Plan(prompt_tokens=512, template=True, device="0,1", threads=4, trust_remote_code=True),
    ],
)
def test_the_command_asks_for_the_same_plan_again(plan: Plan) -> None:
    words = shlex.split(command_of(plan))
    assert words[0] == "kasoku"
    asked = parser().parse_args(words[1:])
    assert asked.prompt == (None if plan.prompt_tokens else plan.prompt)
    assert asked.prompt_tokens == plan.prompt_tokens
    assert asked.method == [method.name for method in plan.methods]
    assert (asked.requests, asked.warmup, asked.blocks, asked.seed) == (
        plan.requests,
        plan.warmup,
        plan.blocks,
        plan.seed,
    )
    assert asked.template is plan.template
    sampling = plan.sampling
    assert (asked.max_new_tokens, asked.stop_at_eos) == (sampling.max_new_tokens, sampling.stop_at_eos)
    assert (asked.temperature, asked.top_p, asked.top_k) == (sampling.temperature, sampling.top_p, sampling.top_k)
    assert (asked.dtype, asked.device, asked.threads) == (plan.dtype, plan.device, plan.threads)
    assert bool(asked.trust_remote_code) == plan.trust_remote_code


def test_a_prompt_that_would_name_a_file_is_piped() -> None:
    command = command_of(Plan(prompt="@home"))
    assert command.startswith("printf %s @home | kasoku run ")
    assert "--prompt=-" in shlex.split(command)


def test_only_html_and_markdown_are_written() -> None:
    assert (form_of(Path("a.HTML")), form_of(Path("a.md"))) == ("html", "md")
    with pytest.raises(ReportError, match=r"neither \.html nor \.md"):
        form_of(Path("a.pdf"))


def test_the_command_writes_the_file_and_refuses_in_a_line(
    hostile: tuple[Store, SessionFolder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, made = hostile
    monkeypatch.setenv("KASOKU_HOME", str(store.path.parent))
    target = tmp_path / "report.md"
    assert main(["report", made.id, "--out", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert target.read_text().startswith(f"# Kasoku: {made.id}")
    assert main(["report", made.id, "--out", str(tmp_path / "report.pdf")]) == 2
    assert main(["report", "nothing-of-the-kind", "--out", str(target)]) == 2
    assert main(["report", made.id, "--out", str(tmp_path / "none" / "there" / "r.md")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_damaged_session_is_a_row_of_the_page(hostile: tuple[Store, SessionFolder]) -> None:
    store, made = hostile
    bad = make_session(store.path, RATES)
    bad.frame("requests").write_bytes(b"torn")
    gone = make_session(store.path, RATES)
    (gone.path / "session.json").unlink()
    text = page(make_report(store, [made.id, bad.id, gone.id]), "html")
    assert "its requests cannot be read" in text
    assert "has no session.json" in text
