"""Settings, method and environment files that somebody wrote: taken, or a sentence on what is wrong with them."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from methods.base.interpreter import Interpreter, Unavailable
from methods.catalogue import evidence
from methods.catalogue.availability import DeviceFacts, choice
from methods.catalogue.catalogue import BUILT_IN as METHODS
from methods.catalogue.catalogue import load_catalogue
from methods.environments import environments, managed
from methods.environments.specs import BUILT_IN as ENVIRONMENTS
from methods.environments.specs import load_specs
from tests.fuzz.anything import ANY_JSON, TEXT, damaged
from tests.fuzz.profile import fuzzed
from tui.settings import load_settings

# TOML that parsers stumble over: numbers without end, nesting without end, times that there are none of.
ODD = st.sampled_from(
    (
        "x = " + "9" * 5_000,
        "x = " + "[" * 3_000 + "]" * 3_000,
        "x = " + "{a = " * 3_000 + "1" + "}" * 3_000,
        "x = 1e400",
        "x = nan",
        "x = 2024-13-45T99:99:99Z",
        "x = 0001-01-01T00:00:00+23:59",
        "[" + "a." * 3_000 + "a]",
        "\ufeffx = 1",
        "x = '''",
        '"\\u0000" = 1',
    )
)
PATHS = st.sampled_from(
    ("/bin/true", "~", "~nobody-of-that-name/bin/python", "/" + "a" * 5_000, "/no\0where", "/dev/null", "/", "./x.py",
     "relative/python", "3.11", ">=3.9,<4", "==3.*", "~=3", "", "…")
)  # fmt: skip
TOML_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | TEXT | PATHS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)


def toml(value: object) -> str:
    """A value written as TOML; tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)  # nan and inf are TOML too
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    return str(value)


def document(table: dict[str, Any]) -> str:
    return "".join(f"{toml(key)} = {toml(value)}\n" for key, value in table.items())


def table_of(keys: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the known keys, with anything in them, and perhaps one that is not known."""
    known = st.dictionaries(st.sampled_from(keys), TOML_VALUES, max_size=6)
    return st.builds(lambda first, second: {**first, **second}, known, st.dictionaries(TEXT, TOML_VALUES, max_size=1))


SETTINGS = table_of(("theme", "mouse", "fps", "keymap"))
METHOD = table_of(
    ("summary", "engine", "options", "environments", "needs", "must_show", "reference", "differs", "good_for", "origin",
     "presets")
)  # fmt: skip
SOUND_METHOD = {"summary": "Mine.", "engine": "transformers", "environments": {"cpu": "mine"}}
CONDITIONS = st.dictionaries(
    st.sampled_from((*evidence.CONDITIONS, evidence.WHY_NOT, *evidence.DEVICES)), TOML_VALUES, max_size=4
)
ENVIRONMENT = table_of(
    ("purpose", "python", "backend", "variables", "requirements", "overrides", "imports", "paths")
) | st.builds(
    lambda python, paths, imports: {"python": python, "paths": paths, "imports": imports},
    PATHS,
    st.lists(PATHS, max_size=2),
    st.lists(TEXT, max_size=2),
)


def contents(tables: st.SearchStrategy[dict[str, Any]], real: bytes) -> st.SearchStrategy[bytes]:
    """A file's content: a table, odd TOML, any bytes, or one of ours damaged."""
    written = tables.map(lambda table: document(table).encode(errors="replace"))
    return written | ODD.map(str.encode) | st.binary(max_size=200) | damaged(real)


@given(contents(SETTINGS, b'theme = "textual-light"\nmouse = false\nfps = 8\n[keymap]\n"run.stop" = "x"\n'))
@fuzzed()
def test_any_settings_file_gives_settings_and_sentences(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "settings.toml").write_bytes(content)
        settings, problems = load_settings(Path(place))
        assert 1 <= settings.fps <= 15
        assert all(str(place) in problem for problem in problems)


@given(
    contents(
        st.builds(
            lambda name, method: {"methods": {name: method}},
            TEXT | st.just("mine"),
            METHOD
            | METHOD.map(lambda method: {**SOUND_METHOD, **method})
            | CONDITIONS.map(lambda must_show: {**SOUND_METHOD, "must_show": must_show}),
        ),
        METHODS.read_bytes(),
    ),
    ANY_JSON,
)
@fuzzed()
def test_any_method_file_gives_methods_that_can_be_judged_or_sentences(content: bytes, facts: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "methods").mkdir()
        (folder / "methods" / "mine.toml").write_bytes(content)
        catalogue = load_catalogue(folder)
        assert "baseline" in catalogue.methods
        assert all(isinstance(problem, str) and problem for problem in catalogue.problems)
        find = partial(environments.resolve, home=folder, config_folder=folder)
        for method in catalogue.methods.values():
            if catalogue.files[method.name] != METHODS:
                found = choice(method, DeviceFacts("cpu"), folder, find).found
                assert isinstance(found, Interpreter | Unavailable)
                for taken in ({}, {"device": "cpu", "attention_ops": facts, "cache": facts, "compiled_frames": facts}):
                    assert evidence.judge(method.must_show, taken).reason


@given(
    contents(
        st.builds(lambda name, table: {name: table}, TEXT | st.just("torch"), ENVIRONMENT), ENVIRONMENTS.read_bytes()
    )
)
@example(b'[mine]\npython = "~nobody-of-that-name/bin/python"\n')
@example(b'[mine]\npython = "/' + b"a" * 5_000 + b'"\n')
@example(b'[mine]\npython = "/bin/true"\npaths = ["/no\\u0000where"]\n')
@fuzzed(0.5)
def test_any_environment_file_gives_environments_that_can_be_resolved_or_sentences(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "environments.toml").write_bytes(content)
        specs = load_specs(folder)
        assert "torch" in specs.by_name
        for name in specs.by_name:
            assert isinstance(environments.resolve(name, folder, folder), Interpreter | Unavailable)
        assert len(environments.listed(folder, folder)) >= len(specs.by_name)


MANIFEST = {
    "schema": 1,
    "name": "torch",
    "spec_digest": "d",
    "backend": "cpu",
    "python_version": "3.11",
    "created": "2026-01-01",
    "size_bytes": 1,
    "versions": {"torch": "2"},
    "notes": [],
}


@given(
    st.builds(
        lambda changes: {**MANIFEST, **changes}, st.dictionaries(st.sampled_from(sorted(MANIFEST)), ANY_JSON)
    ).map(lambda manifest: json.dumps(manifest).encode())
    | damaged(json.dumps(MANIFEST).encode())
    | st.just(b"[" * 50_000)
)
@fuzzed()
def test_any_manifest_of_an_environment_is_an_environment_or_none(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        for name, written in (("torch-1", content), ("torch-2", json.dumps(MANIFEST).encode())):
            made = home / "environments" / name
            (made / "bin").mkdir(parents=True)
            (made / "bin" / "python").symlink_to("/bin/true")
            (made / managed.MANIFEST).write_bytes(written)
        assert isinstance(environments.resolve("torch", home, home), Interpreter | Unavailable)
        assert environments.listed(home, home)
