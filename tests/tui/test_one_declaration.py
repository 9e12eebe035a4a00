"""An option and a key of the catalogue are declared once: one that is added here is found wherever there are any."""

import argparse
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.app import App, ComposeResult
from textual.widgets import Input

from sessions.disk.option_table import Option, OptionError, changed, option, table
from sessions.disk.options import RunOptions
from sessions.disk.plan import Plan, PlannedMethod
from sessions.disk.sampling import Sampling
from sessions.export.command import command_of
from sessions.run.block_run import job_of
from tests.made_model import made_prepared
from tui.option_arguments import add_options, said
from tui.read.plan_facts import plan_facts
from tui.widgets import option_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class WiderSampling(Sampling):
    min_p: float = field(
        default=0.0,
        metadata=option(Option(metavar="P", help="leave unlikely tokens out", least=0, most=1, label="min-p")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WiderPlan(Plan):
    sampling: WiderSampling = field(default_factory=WiderSampling)
    quiet: bool = field(default=False, metadata=option(Option(help="say less", label="quiet", job=True)))


OPTIONS = table(WiderPlan)
METHOD = PlannedMethod(name="a", engine="e", environment="t")
ASKED = changed(WiderPlan(methods=[METHOD]), {"min_p": 0.1, "quiet": True})


def test_the_command_line_takes_and_explains_it() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, OPTIONS)
    assert "--min-p P" in parser.format_help()
    assert "leave unlikely tokens out" in parser.format_help()
    assert said(parser.parse_args(["--min-p", "0.1", "--quiet"]), OPTIONS)["min_p"] == 0.1
    nothing = said(parser.parse_args([]), OPTIONS)
    assert (nothing["min_p"], nothing["quiet"]) == (None, None)
    assert said(parser.parse_args(["--prompt=--"]), OPTIONS)["prompt"] == "--"


def test_its_bounds_are_kept_and_said_and_so_are_they_in_a_file() -> None:
    sentence = "--min-p 1.5 is out of range: use a number from 0 to 1."
    with pytest.raises(OptionError, match=sentence):
        changed(ASKED, {"min_p": 1.5})
    with pytest.raises(msgspec.ValidationError, match=sentence):
        msgspec.json.decode(b'{"sampling": {"min_p": 1.5}}', type=WiderPlan)


def test_the_plan_file_holds_it() -> None:
    stored = msgspec.json.encode(ASKED)
    assert b'"min_p":0.1' in stored
    assert msgspec.json.decode(stored, type=WiderPlan) == ASKED


def test_the_command_of_the_plan_says_it() -> None:
    words = shlex.split(command_of(ASKED))
    assert words[words.index("--min-p") + 1] == "0.1"
    assert "--quiet" in words


def test_the_facts_of_the_plan_tell_it() -> None:
    told = {fact.label: fact.text for fact in plan_facts(msgspec.to_builtins(ASKED), kind=WiderPlan)}
    assert (told["min-p"], told["quiet"]) == ("0.1", "yes")


def test_the_runners_job_has_it() -> None:
    prepared = made_prepared("a")
    job = job_of(ASKED, ASKED.method("a"), ASKED.order()[0], prepared)
    assert job["sampling"]["min_p"] == 0.1
    assert job["quiet"] is True


class Form(App[None]):
    def compose(self) -> ComposeResult:
        yield from option_fields.option_fields(OPTIONS, {})


async def test_the_form_asks_for_it() -> None:
    async with Form().run_test() as pilot:
        screen = pilot.app.screen
        option_fields.show_defaults(screen, OPTIONS, WiderPlan())
        assert option_fields.said(screen, OPTIONS) == {}
        typed = screen.query_one("#min_p", Input)
        assert typed.placeholder == "0"
        typed.value = "0.1"
        assert option_fields.said(screen, OPTIONS) == {"min_p": 0.1}
        typed.value = "much"
        with pytest.raises(ValueError, match="Min-p 'much' is not a number"):
            option_fields.said(screen, OPTIONS)


ROOMS = Path(__file__).parents[2]
WITH_LICENCE = """
[methods.mine]
summary = "Mine."
engine = "transformers"
environments = { cpu = "torch" }
licence = "MIT"
"""
PLANNED = """
import sys
from pathlib import Path
import msgspec
from sessions.device.devices import cpu
from sessions.disk.plan import Plan
from sessions.planning.make import plan_of
from sessions.planning.offer import offer_on
from sessions.planning.wanted import Wanted

home, config = Path(sys.argv[1]), Path(sys.argv[2])
offer = offer_on(cpu(), home, config)
assert not offer.problems, offer.problems
plan = plan_of(Wanted({"model": "smollm2-135m"}, methods=["mine"]), home, offer)
again = msgspec.json.decode(msgspec.json.encode(plan), type=Plan)
assert again == plan
print(again.methods[0].licence)
"""


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """A copy of the rooms in which the catalogue has one more key, declared in one line."""
    place = tmp_path / "rooms"
    for room in ("methods", "sessions", "probes"):
        shutil.copytree(ROOMS / room, place / room, ignore=shutil.ignore_patterns("__pycache__"))
    file = place / "methods" / "catalogue" / "method.py"
    last = '    origin: str = field(default="", metadata=key(text_or_empty))\n'
    text = file.read_text()
    assert text.count(last) == 1
    file.write_text(text.replace(last, last + last.replace("origin", "licence")))
    return place


def test_a_key_of_the_catalogue_is_read_planned_and_stored(rooms: Path, tmp_path: Path) -> None:
    config = tmp_path / "config"
    (config / "methods").mkdir(parents=True)
    (config / "methods" / "mine.toml").write_text(WITH_LICENCE)
    done = _python(rooms, PLANNED, str(tmp_path / "home"), str(config))
    assert (done.returncode, done.stdout) == (0, "MIT\n"), done.stderr


def _python(folder: Path, program: str, *arguments: str) -> Any:
    start = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", start + program, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "each", [option for option in table(RunOptions) if option.negative], ids=lambda each: each.name
)
def test_what_can_be_said_no_to_is_told_apart_in_a_plans_facts(each: Option) -> None:
    """A session without fidelity was said to measure it, and one without a load to end when saturated."""
    no, yes = (each.say(word, {}) for word in each.words)
    assert yes
    assert no != yes


def test_a_plain_sessions_plan_says_that_fidelity_is_not_measured_and_nothing_of_a_load() -> None:
    facts = {fact.label: fact.text for fact in plan_facts(msgspec.to_builtins(ASKED))}
    assert facts["fidelity"] == "not measured"
    assert "load" not in facts
