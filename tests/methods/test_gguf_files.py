"""A user's GGUF: how it is named, its parts, and the methods that do not read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from methods.catalogue.quantised import lacking_for
from methods.models.gguf_files import GgufError, gguf_files
from methods.models.models import ModelError, check
from methods.models.sources import AsGguf, InFolder, lasting, source_of

HEAD = b"GGUF\x03\x00\x00\x00"


def written(path: Path, content: bytes = HEAD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_it_is_named_by_its_ending_or_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "a" / "model.gguf")
    monkeypatch.chdir(tmp_path)

    assert source_of(str(file)) == AsGguf(file)
    assert source_of("a/model.gguf") == AsGguf(file)
    assert source_of("./a") == AsGguf(tmp_path / "a")
    assert lasting("a/model.gguf") == str(file)
    written(tmp_path / "a" / "config.json", b"{}")
    assert source_of("./a") == InFolder(tmp_path / "a")


def test_all_parts_belong_to_it_in_their_order(tmp_path: Path) -> None:
    parts = [written(tmp_path / f"m-0000{number}-of-00003.gguf") for number in (1, 2, 3)]

    assert gguf_files(parts[1]) == gguf_files(tmp_path) == parts
    written(tmp_path / "mmproj-f16.gguf")
    assert gguf_files(tmp_path) == parts
    parts[2].unlink()
    with pytest.raises(GgufError, match=r"m-00003-of-00003\.gguf does not exist"):
        gguf_files(parts[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "does not begin like one"),
        (b"PK\x03\x04 and more", "does not begin like one"),
        (b"GGUF\x01\x00\x00\x00", "version 1; versions 2 and 3"),
    ],
)
def test_what_is_no_gguf_is_refused_before_anything_is_made(tmp_path: Path, content: bytes, said: str) -> None:
    file = written(tmp_path / "model.gguf", content)

    for named in (file, tmp_path):
        with pytest.raises(ModelError, match=said):
            check(str(named), tmp_path / "home")


def test_what_is_not_there_or_not_clear_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.gguf does not exist"):
        check(str(tmp_path / "none.gguf"), tmp_path / "home")
    for name in ("one", "two"):
        written(tmp_path / f"{name}.gguf")
    with pytest.raises(ModelError, match="holds 2 models as GGUF; name one of the files"):
        check(str(tmp_path), tmp_path / "home")


def test_only_llama_cpp_and_engines_of_the_users_are_given_it() -> None:
    python = Interpreter("torch", Path("/python"), (), {}, "managed", {"transformers": "5.17.0"})
    refused = {
        engine: lacking_for("gguf", engine, {}, python, False) for engine in ("transformers", "vllm", "ctranslate2")
    }

    assert {lack and lack.reason.startswith("The model is a GGUF") for lack in refused.values()} == {True}
    assert lacking_for("gguf", "llamacpp", {}, python, False) is None
    assert lacking_for("gguf", "/home/me/engine.py", {}, python, False) is None
