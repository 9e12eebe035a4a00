"""What is known of models before anything is fetched or made: the size of a shape, and what the Hub's cache holds."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from huggingface_hub import constants

from methods.models.hub_cache import cached_models
from methods.models.shape_size import parameters_of
from methods.models.sources import shapes


@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        ("llm-jp-1.3b", 1_316_605_952),
        ("llama-1b", 1_072_785_408),
        ("llama-8b", 8_030_261_248),
        ("tiny-gpt2", 165_632),
        ("tiny-llama", 106_816),
    ],
)
def test_a_shape_has_as_many_weights_as_the_model_that_is_made_of_it(shape: str, weights: int) -> None:
    assert parameters_of(shapes()[shape].config) == weights


def test_of_what_is_no_such_shape_nothing_is_said() -> None:
    assert parameters_of({"model_type": "mamba", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 9}) is None
    assert parameters_of({"model_type": "llama", "hidden_size": 8}) is None


def test_the_hubs_cache_offers_whole_models_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert list(cached_models()) == []
    snapshot(tmp_path, "models--org--whole", ("config.json", "model.safetensors"))
    snapshot(tmp_path, "models--org--without-weights", ("config.json",))
    snapshot(tmp_path, "models--org--no-model", ("model.safetensors",))
    snapshot(tmp_path, "datasets--org--data", ("config.json", "model.safetensors"))
    (tmp_path / "models--org--empty").mkdir()
    (found,) = cached_models()
    assert (found.repository, found.commit, found.weights_bytes) == ("org/whole", "c0ffee", 10)


def snapshot(cache: Path, name: str, files: tuple[str, ...]) -> None:
    folder = cache / name / "snapshots" / "c0ffee"
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_bytes(struct.pack("<Q", 2) + b"{}")
    (cache / name / "refs").mkdir()
    (cache / name / "refs" / "main").write_text("c0ffee\n", encoding="utf-8")
