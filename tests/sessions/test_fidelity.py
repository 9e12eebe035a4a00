"""Fidelity from the plan to the frame: the windows of its text, what makes them impossible, whole sessions with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from methods.base.interpreter import Interpreter
from methods.models.model import Model
from methods.text.tokeniser import Tokeniser
from sessions.disk.extension import Extension
from sessions.disk.option_table import Value
from sessions.disk.plan import FidelityRule, Plan
from sessions.disk.records import BlockPhase, Phase, ReferenceScored
from sessions.disk.session_folder import SessionError, SessionFolder
from sessions.planning.fidelity_rule import PASSAGE, FidelityTextError, rule_of
from sessions.planning.fidelity_windows import windows_of
from sessions.planning.make import make_plan
from sessions.planning.wanted import PlanError, Wanted
from sessions.run.launch import extend, launch
from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace, make_model, records_of, runs_of

WORDS = ["[UNK]", *(f"word{number}" for number in range(60))]
PATHS = ["prefill", "decode"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    for work in opened(tmp_path_factory.mktemp("fidelity")):
        work.method("one")
        yield work


def plan_of(max_new_tokens: int = 48, text: Path | None = None) -> Plan:
    plan = Plan(fidelity_text=None if text is None else str(text))
    plan = dataclasses.replace(plan, sampling=dataclasses.replace(plan.sampling, max_new_tokens=max_new_tokens))
    return dataclasses.replace(plan, fidelity_rule=rule_of(plan)[1])


@pytest.mark.parametrize("max_new_tokens", [1, 16, 48, 128, 256])
@pytest.mark.parametrize("prompt_tokens", [1, 48, 4096])
def test_windows_are_no_longer_than_a_timed_request_and_as_many_as_are_needed(
    default_model: Model, max_new_tokens: int, prompt_tokens: int
) -> None:
    found = windows_of(plan_of(max_new_tokens), default_model, prompt_tokens)
    assert len(found.texts) == len(found.contexts) >= 8
    assert 2 * len(found.texts) * found.scored >= 2000
    assert found.scored <= max_new_tokens
    assert {len(window.ids) for window in found.texts} == {prompt_tokens + found.scored}
    assert {len(context) for context in found.contexts} == {prompt_tokens}
    ids = Tokeniser(default_model.folder).encode(PASSAGE.read_text(encoding="utf-8"))
    assert len(ids) >= 4096 + 1000, "a long prompt leaves text to score"
    scored = [tuple(window.ids[-found.scored :]) for window in found.texts]
    places = [next(i for i in range(len(ids)) if ids[i : i + found.scored] == [*part]) for part in scored[:20]]
    assert found.scored == 1 or all(b - a >= found.scored for a, b in pairwise(places))


def test_half_of_the_passage_is_japanese_and_both_are_scored(default_model: Model) -> None:
    tokeniser = Tokeniser(default_model.folder)
    found = windows_of(plan_of(), default_model, 48)
    japanese = [any("ぁ" <= sign <= "鿿" for sign in tokeniser.decode(window.ids[-48:])) for window in found.texts]
    assert 0.25 < sum(japanese) / len(japanese) < 0.75


def test_a_tokeniser_that_begins_a_text_with_a_bos_begins_each_window_with_it(
    default_model: Model, tmp_path: Path
) -> None:
    described = json.loads((default_model.folder / "tokenizer.json").read_bytes())
    bos = next(token for token in described["added_tokens"] if token["special"])
    described["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": bos["content"], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {bos["content"]: {"id": bos["content"], "ids": [bos["id"]], "tokens": [bos["content"]]}},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    found = windows_of(plan_of(), dataclasses.replace(default_model, folder=tmp_path), 20)
    assert {window.ids[0] for window in found.texts} == {context[0] for context in found.contexts} == {bos["id"]}
    assert {len(window.ids) for window in found.texts} == {20 + 48}


def test_a_text_that_is_too_short_or_out_of_reach_is_refused_in_one_line(
    work: Workplace, default_model: Model, tmp_path: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Too short.")
    with pytest.raises(FidelityTextError, match=r"has 3 tokens .* and 1,009 are needed: name a longer one"):
        windows_of(plan_of(text=short), default_model, 48)
    talks = make_model(work.model.with_name("talks"), WORDS)
    own = dataclasses.replace(default_model, name="talks", folder=talks, vocab_size=64)
    with pytest.raises(FidelityTextError, match="out of reach of talks's tokeniser"):
        windows_of(plan_of(), own, 4)
    changed = plan_of(text=short)
    short.write_text("Another text.")
    with pytest.raises(FidelityTextError, match="not the one that the session was planned with"):
        windows_of(changed, default_model, 48)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"fidelity_text": "/nowhere/text.txt"}, "The text for fidelity /nowhere/text.txt cannot be read"),
        ({"fidelity_text": "{short}"}, "name a longer one with --fidelity-text"),
        ({"fidelity_text": "{short}", "fidelity": False}, "--fidelity-text and --no-fidelity exclude each other"),
        ({"reference_model": " "}, "--reference-model is empty"),
        ({"reference_model": "/nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_scored_is_refused_when_it_is_planned(
    work: Workplace, tmp_path: Path, asked: dict[str, str | bool], sentence: str
) -> None:
    (tmp_path / "short.txt").write_text(" ".join(WORDS[1:9]))
    talks = make_model(work.model.with_name("talks"), WORDS)
    said = {name: each.format(short=tmp_path / "short.txt") if isinstance(each, str) else each
            for name, each in asked.items()}  # fmt: skip
    with pytest.raises(PlanError, match=sentence):
        work.plan("one", **{"model": str(talks), **said})


def test_a_text_of_ones_own_asks_for_fidelity_and_only_quick_leaves_it_out(work: Workplace, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(WORDS[1:40] * 60))
    talks = make_model(work.model.with_name("talks"), WORDS)
    plan = work.plan("one", model=str(talks), fidelity_text=str(text))
    assert (plan.fidelity, plan.fidelity_text) == (True, str(text))
    assert plan.fidelity_rule is not None
    assert plan.fidelity_rule.scored == 8
    assert work.plan("one").fidelity is False
    assert work.plan("one", preset="article").fidelity is True
    assert work.plan("one", preset="article", fidelity=False).fidelity is False


def test_a_model_without_a_tokeniser_is_measured_and_its_frame_says_why_it_has_no_scores(work: Workplace) -> None:
    folder = work.run("one", fidelity=True)
    assert [row["status"] for row in runs_of(folder)] == ["ok"]
    frame = pl.read_parquet(folder.frame("fidelity"))
    assert frame["path"].to_list() == PATHS
    assert all("has no tokeniser" in json.loads(missing)["nll"] for missing in frame["missing"])
    assert not [
        record for record in records_of(folder) if isinstance(record, BlockPhase) and record.phase == "fidelity"
    ]
    with pytest.raises(SessionError, match="has no tokeniser, so its fidelity cannot be scored"):
        extend(folder, Extension(fidelity=True), work.home)


def small(home: Path, config: Path, model: Model, *methods: str, fidelity: bool) -> Plan:
    """A plan of the real thing with four windows of eight ids."""
    said: dict[str, Value | None] = {
        "model": str(model.folder), "device": "cpu", "threads": 1, "requests": 2, "blocks": 2, "warmup": 0,
        "max_new_tokens": 8, "prompt_tokens": 8, "seed": 1, "fidelity": fidelity,
    }  # fmt: skip
    plan = make_plan(Wanted(said, methods=methods), home, config)
    assert plan.fidelity_rule is not None
    return dataclasses.replace(plan, fidelity_rule=dataclasses.replace(plan.fidelity_rule, windows=4))


@pytest.mark.model
@pytest.mark.engines
def test_a_session_scores_each_method_once_and_the_baseline_is_its_own_reference(
    home: Path, tmp_path: Path, default_model: Model, torch_interpreter: Interpreter
) -> None:
    folder = launch(home, small(home, tmp_path / "config", default_model, "baseline", "library-default", fidelity=True))
    assert Workplace.finished(folder, 300) == "finished", folder.read().error
    frame = pl.read_parquet(folder.frame("fidelity"))
    assert frame.height == 2 * 2 * 4, "a row per method, path and window"
    assert frame.select("method", "block").unique().height == 2, "once per method"
    assert frame["stratum"].value_counts().sort("stratum").rows() == [("greedy", 8), ("text", 8)]
    own = frame.filter(pl.col("method") == "baseline")
    assert own["nll"].equals(own["nll_reference"])
    assert own["worst"].to_list() == own["kl"].to_list() == [0.0] * 8
    assert own["top1_equal"].equals(own["tokens"])
    other = frame.filter(pl.col("method") == "library-default")
    assert all(0 < kl < 0.1 for kl in other["kl"])
    assert all(apart < 0.3 for apart in other["worst"])
    costs = pl.read_parquet(folder.frame("runs")).sort("block", "method")["fidelity_s"].to_list()
    assert all(seconds > 0 for seconds in costs[:2])
    assert costs[2:] == [None, None]
    with pytest.raises(SessionError, match="has the fidelity of all its methods already"):
        extend(folder, Extension(fidelity=True), home)

    later = launch(home, small(home, tmp_path / "config", default_model, "baseline", fidelity=False))
    assert Workplace.finished(later, 300) == "finished"
    assert pl.read_parquet(later.frame("fidelity")).is_empty()
    assert extend(later, Extension(fidelity=True), home).blocks == 3
    assert Workplace.finished(later, 300) == "finished"
    again = pl.read_parquet(later.frame("fidelity"))
    assert again.select("nll", "kl", "path").equals(own.select("nll", "kl", "path")), "of the reference that was kept"
    assert _reference(later).key == _reference(folder).key
    assert not _progress(later), "it was not measured again"


def _reference(folder: SessionFolder) -> ReferenceScored:
    return next(record for record in records_of(folder) if isinstance(record, ReferenceScored))


def _progress(folder: SessionFolder) -> list[Phase]:
    phases = [record for record in records_of(folder) if isinstance(record, Phase)]
    return [record for record in phases if (record.name, record.state) == ("fidelity", "progress")]


def test_a_plan_of_a_rule_is_kept_with_it(work: Workplace) -> None:
    rule = work.plan("one", fidelity=True).fidelity_rule
    assert rule == FidelityRule(text_digest=rule.text_digest if rule else "", windows=250, scored=8)
