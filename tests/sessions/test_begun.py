"""What is resumed is what was begun: the prompt, the weights and the versions of the first blocks, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from methods.base.interpreter import Interpreter
from methods.models.model import Model
from sessions.disk.records import AnyRecord, BlockEnded, BlockStarted, Loaded, Note, PointEnded, Prepared
from sessions.disk.session_folder import SessionFolder
from sessions.run.begun import Begun
from tests.made_model import made_interpreter, made_model
from tests.sessions.workplace import VOCABULARY, Workplace, make_model, records_of, runs_of

TIMED_TEMPLATE = "{{ strftime_now('%f') }} {% for m in messages %}{{ m['content'] }}{% endfor %}"


def with_versions(**versions: str) -> Interpreter:
    return replace(made_interpreter(), versions=versions)


def prepared(model: Model | None = None, interpreter: Interpreter | None = None, settings: str = "") -> Prepared:
    return Prepared(
        t=0,
        model=model or made_model(weights_digest="a" * 64),
        prompts=[[1]],
        prompt_text=None,
        prompt_template=False,
        settings_digest=settings,
        stop_token_ids=[],
        interpreters={} if interpreter is None else {"one": interpreter},
        unavailable={},
    )


def block(status: str = "ok", versions: dict[str, object] | None = None, number: int = 0) -> Sequence[AnyRecord]:
    return (
        Loaded(t=0, method="one", block=number, versions=versions or {}),
        BlockEnded(t=0, method="one", block=number, status=status),
    )


def test_a_loads_block_that_broke_off_after_its_last_point_is_done_unless_it_is_void() -> None:
    """Resumed, it was begun again with no point to measure, and its row stayed "stopped"."""
    started = BlockStarted(t=0, method="one", block=0, position=1, of=1, points=[1, 0])
    points = [PointEnded(t=0, method="one", block=0, place=place, status="ok") for place in (1, 0)]
    assert Begun.of((started, points[0])).done == set()
    assert Begun.of((started, *points)).done == {("one", 0)}
    assert Begun.of((started, *points, BlockEnded(t=0, method="one", block=0, status="stopped"))).done == {("one", 0)}
    void = BlockEnded(t=0, method="one", block=0, status="failed", void=True)
    assert Begun.of((started, *points, void)).done == set()


def test_a_session_that_is_not_begun_takes_any_model_and_environment() -> None:
    begun = Begun.of(())
    assert begun.other_model(made_model(weights_digest="b"), "s") == ""
    assert begun.other_environment(with_versions(torch="2.1.2")) == ""
    assert begun.other_versions(Loaded(t=0, method="one", block=0, versions={"torch": "2.1.2"})) == ""


def test_other_weights_or_settings_than_the_first_are_refused() -> None:
    begun = Begun.of((prepared(settings="one"), prepared(made_model(weights_digest="b" * 64), settings="two")))
    assert begun.other_model(made_model(weights_digest="a" * 64), "one") == ""
    said = begun.other_model(made_model(weights_digest="b" * 64), "one")
    assert "SHA-256 aaaaaaaaaaaa… then, bbbbbbbbbbbb… now): start a new session, or put the earlier ones back" in said
    assert "config.json" in begun.other_model(made_model(weights_digest="a" * 64), "two")
    coded = Begun.of((prepared(made_model(weights_digest="a", code_digest="c")),))
    assert "or code" in coded.other_model(made_model(weights_digest="a", code_digest="d"), "")
    older = Begun.of((prepared(),))
    assert older.other_model(made_model(weights_digest="a" * 64), "any") == "", "a journal that has no such digest"


def test_an_environment_holds_its_versions_from_its_first_block_that_counts() -> None:
    was = with_versions(torch="2.13.0", transformers="5.24.0", engine="1", pip="24.0")
    changed = with_versions(torch="2.1.2", transformers="5.24.0", engine="2", pip="25.0")
    assert Begun.of((prepared(interpreter=was), *block("failed"))).other_environment(changed) == ""
    begun = Begun.of((prepared(interpreter=was), *block(versions={"Engine": "1"})))
    assert begun.other_environment(was) == ""
    assert begun.other_environment(replace(changed, environment="another")) == ""
    assert begun.other_environment(changed) == (
        "The session's environment torch had engine 1 and now has 2 and had torch 2.13.0 and now has 2.1.2: start a new"
        " session, or have the earlier versions in it again and resume."
    )


def test_a_runner_that_reports_other_versions_than_its_methods_earlier_blocks_is_found_out() -> None:
    begun = Begun.of(
        (prepared(interpreter=made_interpreter()), *block("failed", {"torch": "1"}), *block(versions={"torch": "2"}))
    )
    assert begun.other_versions(Loaded(t=0, method="one", block=1, versions={"torch": "2", "more": "1"})) == ""
    assert begun.other_versions(Loaded(t=0, method="another", block=1, versions={"torch": "3"})) == ""
    said = begun.other_versions(Loaded(t=0, method="one", block=1, versions={"torch": "3"}))
    assert "had torch 2 and now has 3" in said


@pytest.fixture
def half(work: Workplace) -> SessionFolder:
    """A session with one block of two: the first failed once."""
    (work.model / "chat_template.jinja").write_text(TIMED_TEMPLATE)
    make_model(work.model, ["<unk>", "Why", "blue?", *map(str, range(10, 60))])
    work.method("once", fault="exception", once=str(work.home.parent / "once"))
    folder = work.run("once", blocks=2, requests=2, prompt_tokens=None, prompt="Why blue?")
    assert [row["status"] for row in runs_of(folder)] == ["failed", "ok"]
    return folder


def preparations(folder: SessionFolder) -> list[Prepared]:
    return [record for record in records_of(folder) if isinstance(record, Prepared)]


def test_a_session_is_not_resumed_with_other_weights_and_keeps_its_prompt_though_the_template_writes_the_time(
    work: Workplace, half: SessionFolder
) -> None:
    weights = work.model / "model.safetensors"
    before = weights.read_bytes()
    save_file({"model.embed_tokens.weight": np.ones((VOCABULARY, 8), np.float32)}, weights)
    work.resume(half)
    assert (half.read().status, len(preparations(half))) == ("failed", 1)
    assert "are not those that the session was begun with" in half.read().error
    config = json.loads((work.model / "config.json").read_bytes())
    weights.write_bytes(before)
    (work.model / "config.json").write_text(json.dumps({**config, "rope_theta": 5}))
    work.resume(half)
    assert "config.json, generation_config.json or code" in half.read().error
    (work.model / "config.json").write_text(json.dumps(config))
    (work.model / "chat_template.jinja").write_text("other words: {{ messages[0].content }}")
    work.resume(half)
    assert (half.read().status, half.read().error) == ("finished", "")
    first, second = preparations(half)
    assert (first.prompts, first.prompt_text, first.prompt_dated) == (second.prompts, "Why blue?", True)
    assert len({row["prompt_digest"] for row in runs_of(half)}) == 1
    notes = [record.text for record in records_of(half) if isinstance(record, Note)]
    assert [note for note in notes if "writes the date or the time" in note]


def distribution(folder: Path, version: str) -> Path:
    (folder / f"torch-{version}.dist-info").mkdir(parents=True)
    (folder / f"torch-{version}.dist-info" / "METADATA").write_text(f"Name: torch\nVersion: {version}\n")
    return folder


def test_a_session_is_not_resumed_in_an_environment_with_another_torch(
    work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = work.config / "environments" / "plain.toml"
    python = described.read_text()

    def have(version: str) -> None:
        described.write_text(python + f"paths = [{json.dumps(str(distribution(tmp_path / version, version)))}]\n")

    have("2.13.0")
    work.method("once", fault="exception", once=str(tmp_path / "once"))
    folder = work.run("once", blocks=2, requests=2)
    have("2.1.2")
    work.resume(folder)
    assert folder.read().status == "failed"
    assert "The session's environment plain had torch 2.13.0 and now has 2.1.2" in folder.read().error
    described.write_text(python + f"paths = [{json.dumps(str(tmp_path / '2.13.0'))}]\n")
    monkeypatch.setenv("SCRIPTED_VERSION", "2")  # as where the environment is not what its metadata says
    work.resume(folder)
    row = runs_of(folder)[-1]
    assert (row["block"], row["status"]) == (0, "failed")
    assert "had scripted 1 and now has 2" in row["error"]
    assert row["error"].endswith("resume.")
