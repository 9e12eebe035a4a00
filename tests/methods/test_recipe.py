"""A method's recipe as TOML, and the copy of it that a user makes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from methods.catalogue.catalogue import BUILT_IN, load_catalogue
from methods.catalogue.recipe import RecipeError, judged, make_own, recipe
from methods.catalogue.toml_text import table_text


def test_every_recipe_reads_as_the_table_it_was_made_from(tmp_path: Path) -> None:
    catalogue = load_catalogue(tmp_path)
    tables = tomllib.loads(BUILT_IN.read_text(encoding="utf-8"))["methods"]
    for name in catalogue.methods:
        assert tomllib.loads(recipe(catalogue, name)) == {"methods": {name: tables[name]}}


def test_every_value_that_a_catalogue_can_hold_survives() -> None:
    table = {
        "text": 'a "quoted" \\ line\n\ttab \x7f \x00 \u200f加速',
        "numbers": [1, -2, 1e300, 0.1, True, False],
        "": {"a b": {}, "deep": {"x": [{"y": "z" * 120}], "é": 1}},
        "long": {"more": ["x" * 60, "y" * 60]},
    }
    assert tomllib.loads(table_text(("methods", "a.b"), table)) == {"methods": {"a.b": table}}


def test_a_copy_is_a_method_of_its_own_in_no_preset(tmp_path: Path) -> None:
    file = make_own("baseline", "mine", tmp_path)
    assert (judged(file, tmp_path).methods, judged(file, tmp_path).problems) == (("mine",), ())
    methods = load_catalogue(tmp_path).methods
    assert methods["mine"].presets == ()
    assert methods["mine"].options == methods["baseline"].options
    assert make_own("mine", "mine-too", tmp_path).name == "mine-too.toml"


@pytest.mark.parametrize(
    ("name", "own", "said"),
    [
        ("baseline", "torch-compile", "the name is already taken by"),
        ("baseline", "Mine!", "a name is up to 64 of a-z"),
        ("baseline", "../mine", "a name is up to 64 of a-z"),
        ("gone", "mine", "no method 'gone' any more"),
        ("baseline", "there", "is there already"),
    ],
)
def test_a_copy_that_cannot_be_is_a_sentence_and_writes_nothing(name: str, own: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "there.toml").write_text("", encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        make_own(name, own, tmp_path)
    assert [path.name for path in (tmp_path / "methods").iterdir()] == ["there.toml"]
    assert (tmp_path / "methods" / "there.toml").read_text(encoding="utf-8") == ""


def test_what_the_catalogue_rejects_in_a_file_is_said_and_other_files_are_not_blamed(tmp_path: Path) -> None:
    file = make_own("baseline", "mine", tmp_path)
    (tmp_path / "methods" / "other.toml").write_text("[methods.x", encoding="utf-8")
    file.write_text(file.read_text(encoding="utf-8").replace("summary", "sumary"), encoding="utf-8")
    found = judged(file, tmp_path)
    assert found.methods == ()
    (problem,) = found.problems
    assert "did you mean 'summary'" in problem
