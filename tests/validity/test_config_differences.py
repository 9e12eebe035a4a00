"""A method whose engine read the config otherwise than its reference's is flagged, by fact and both values."""

from __future__ import annotations

import json
from types import SimpleNamespace as Config
from typing import Any

import pytest

from sessions.frames.config_differences import differences, flag, resolved_config
from tests.methods.runner_process import RUNNER
from tests.validity.made_frames import run


def read_by(config: object, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The facts of a config object, as the runner tells them."""
    monkeypatch.syspath_prepend(str(RUNNER))
    from kasoku_config_facts import resolved_config as read  # type: ignore[import-not-found]

    facts: dict[str, Any] = read(config)
    return facts


SHAPE = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 272}


def test_new_and_old_config_objects_have_the_same_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    new = Config(
        **SHAPE,
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 5e4, "partial_rotary_factor": 0.5},
        layer_norm_eps=1e-5,
        hidden_act="gelu",
        tie_word_embeddings=False,
    )
    old = Config(
        **SHAPE,
        rotary_emb_base=50_000,
        rotary_pct=0.5,
        rope_scaling={"type": "linear", "factor": 2},
        layer_norm_eps=1e-5,
        hidden_act="gelu",
        tie_word_embeddings=False,
    )
    facts = read_by(new, monkeypatch)
    assert facts == read_by(old, monkeypatch)
    assert (facts["rope_theta"], facts["rotary_dim"], facts["rope_scaling"]) == (50_000, 8, "linear by 2")
    assert (facts["heads"], facts["kv_heads"], facts["head_dim"]) == (4, 4, 16)


def test_a_boolean_for_one_kv_head_is_one_and_layers_of_two_kinds_have_two_bases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_by(Config(**SHAPE, multi_query=True), monkeypatch)["kv_heads"] == 1
    both = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    new = read_by(Config(**SHAPE, rope_parameters=both, sliding_window=32), monkeypatch)
    old = read_by(Config(**SHAPE, rope_theta=1e6, rope_local_base_freq=1e4, sliding_window=32), monkeypatch)
    assert new["rope_theta"] == old["rope_theta"] == [1e4, 1e6]
    assert new["sliding_window"] == 32
    composed = read_by(Config(text_config=Config(**SHAPE)), monkeypatch)
    assert composed["layers"] == 2


def test_what_a_config_refuses_to_tell_is_unknown_and_takes_nothing_else_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Varied(Config):
        @property
        def head_dim(self) -> int:
            raise RuntimeError("it varies across layers")

    facts = read_by(Varied(**SHAPE), monkeypatch)
    assert (facts["layers"], facts["head_dim"], "unread" in facts) == (2, 16, False)
    assert "unread" in read_by(Config(**SHAPE, get_text_config=lambda decoder: 1 / 0), monkeypatch)


def resolved(**facts: object) -> str:
    return json.dumps({"config": facts})


def test_the_flag_names_the_fact_and_both_values() -> None:
    rows = [
        run(method="baseline", reference=None, resolved=resolved(rope_theta=50_000.0, rotary_dim=16, layers=2)),
        run(method="article", reference=None, resolved=resolved(rope_theta=10_000, rotary_dim=4, layers=2)),
        run(method="same", reference="article", resolved=resolved(rope_theta=10_001, tie_word_embeddings=True)),
        run(method="silent", reference="baseline", resolved=None),
    ]
    for row in rows:
        row["flags"] = []
    flag(rows, ["silent", "baseline", "article", "same"])
    assert [row["flags"] for row in rows] == [
        [],
        ["config read differently: rope_theta is 10000, but 50000 for baseline; rotary_dim is 4, but 16 for baseline"],
        [],
        [],
    ]


def test_what_one_of_two_does_not_know_is_no_difference_and_no_is_not_yes() -> None:
    assert differences({"sliding_window": None}, {"sliding_window": 32}, "x") == []
    assert differences({"sliding_window": "none"}, {"sliding_window": 32}, "x") == [
        "sliding_window is none, but 32 for x"
    ]
    assert differences({"tie": True}, {"tie": 1}, "x") == ["tie is on, but 1 for x"]
    assert differences({"a": [1, 2]}, {"a": 1}, "x") == ["a is 1, 2, but 1 for x"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"config": 3}', '{"config": null}'])
def test_what_is_no_config_is_none(text: str | None) -> None:
    assert resolved_config(run(resolved=text)) == {}
