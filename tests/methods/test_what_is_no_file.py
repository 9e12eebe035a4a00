"""Pipes and devices under the names of files that Kasoku reads: a sentence at once, and the rest still works."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from methods.catalogue.catalogue import load_catalogue
from methods.environments.specs import load_specs
from methods.models import models
from methods.models.models import ModelError
from tests.sessions.workplace import make_model
from tui.settings import load_settings, save_settings

pytestmark = pytest.mark.timeout(60)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("put", [pipe, zero])
@pytest.mark.parametrize("place", ["methods/x.toml", "environments/x.toml", "environments.toml", "settings.toml"])
def test_among_the_users_settings_it_is_a_sentence(tmp_path: Path, put: Callable[[Path], None], place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    put(path)
    catalogue, specs = load_catalogue(tmp_path), load_specs(tmp_path)
    settings, problems = load_settings(tmp_path)
    said = [*catalogue.problems, *specs.problems, *problems]
    assert len(said) == 1
    assert str(path) in said[0]
    assert "it is not a file" in said[0]
    assert "baseline" in catalogue.methods
    assert "torch" in specs.by_name
    assert settings.theme is None
    if place == "settings.toml":
        assert "it is not a file" in save_settings(tmp_path, "The theme was", {"theme": "textual-light"})


def test_a_folder_of_settings_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    for name in ("methods", "environments"):
        (tmp_path / name).touch()
    said = [*load_catalogue(tmp_path).problems, *load_specs(tmp_path).problems]
    assert [f"{tmp_path / name} cannot be listed: not a directory." for name in ("methods", "environments")] == said


@pytest.mark.parametrize("put", [pipe, zero])
@pytest.mark.parametrize(
    "name",
    ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"],
)
def test_in_a_models_folder_it_is_a_sentence(tmp_path: Path, put: Callable[[Path], None], name: str) -> None:
    folder = make_model(tmp_path / "model")
    (folder / name).unlink(missing_ok=True)
    if name == "model.safetensors.index.json":
        (folder / "model.safetensors").unlink()
    put(folder / name)
    with pytest.raises(ModelError, match=r"not a(n index of safetensors)? files?") as caught:
        models.check(str(folder), tmp_path / "home")
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "model.safetensors"])
def test_json_that_is_nested_without_end_is_a_sentence(tmp_path: Path, name: str) -> None:
    folder = make_model(tmp_path / "model")
    nested = b"[" * 200_000
    if name != "config.json":
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(len(nested).to_bytes(8, "little") + nested if name == "model.safetensors" else nested)
    with pytest.raises(ModelError, match=r"fetch or copy|fetch the model again"):
        models.check(str(folder), tmp_path / "home")
