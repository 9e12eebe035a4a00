"""Models: `check` says before a session what can be known, `prepare` makes the folder that runs.

A prepared model is a folder `models/KEY/` in the home with a manifest. Weights already on this disk, in a
folder or in the Hub's cache, stay where they are: the manifest then only points to them or, if a runner could not
read the folder as it is, sits among links to them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from methods.base import file_lock, whole_folder
from methods.base.home import MODELS, subfolder
from methods.base.interpreter import Interpreter, Unavailable
from methods.base.progress import Progress, Report, silent
from methods.base.user_path import PathError, kind, reason
from methods.models import hub
from methods.models.config import ConfigError, ConfigFacts, facts, facts_in, misread_by_old, read_json
from methods.models.gguf_files import GgufError, gguf_files
from methods.models.making import make_of_gguf, make_packaged, make_readable, make_synthetic
from methods.models.manifest import WATCHED, manifest_of, remember, remember_gguf, remembered
from methods.models.model import Model
from methods.models.own_code import check_code, code_files
from methods.models.quantisation import quantisation_in
from methods.models.safetensors_folder import WeightsError, another_kind, is_pointer, left_out, read_weights
from methods.models.sources import (
    DEFAULT,
    PACKAGED,
    SYNTHETIC,
    AsGguf,
    InFolder,
    ModelError,
    OnHub,
    Packaged,
    Synthetic,
    shapes,
    source_of,
)
from methods.text.tokeniser import FILE as TOKENISER_FILE
from methods.text.tokeniser import Tokeniser, TokeniserError

__all__ = ["DEFAULT", "ListedModel", "Model", "ModelError", "Prospect", "check", "listed", "prepare"]


@dataclass(frozen=True, slots=True)
class Prospect:
    """What can be known of a model before anything large is fetched or created.

    `ready` is the prepared model when it is there. `needs_environment` says that preparing it takes the environment
    `torch`, `download_bytes` how much it would fetch.
    """

    spec: str
    name: str
    ready: Model | None
    context_length: int | None
    vocab_size: int | None
    needs_environment: bool
    download_bytes: int | None


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as `kasoku models list` shows it: prepared ones, and those that Kasoku can create."""

    spec: str
    summary: str
    state: Literal["ready", "available", "broken", "incomplete"]
    model: Model | None
    folder: Path | None
    disk_bytes: int | None


def check(spec: str, home: Path, *, trust_remote_code: bool = False) -> Prospect:
    """Check that `spec` names a model that can be measured. Fetches at most its small files, its code only if that is
    trusted. Raises ModelError."""
    source = source_of(spec)
    try:
        match source:
            case Packaged():
                ready = remembered(home, source.name)
                size = None if ready else source.download_bytes
                return Prospect(spec, spec, ready, source.context_length, source.vocab_size, ready is None, size)
            case Synthetic():
                ready = remembered(home, _synthetic_key(source))
                known = facts(source.config)
                return Prospect(spec, spec, ready, known.context_length, known.vocab_size, ready is None, 0)
            case InFolder():
                return _folder_prospect(source.path, home, trust_remote_code)
            case AsGguf():
                gguf_files(source.path)
                ready = remembered(home, _gguf_key(source.path))
                context, vocabulary = (None, None) if ready is None else (ready.context_length, ready.vocab_size)
                return Prospect(str(source.path), source.path.name, ready, context, vocabulary, ready is None, 0)
            case OnHub():
                return _hub_prospect(spec, source, home, trust_remote_code)
    except (PathError, GgufError, WeightsError, ConfigError, TokeniserError) as error:
        raise ModelError(str(error)) from error
    except OSError as error:
        raise ModelError(f"The model {spec} cannot be read: {reason(error)}.") from error


def prepare(
    spec: str,
    home: Path,
    interpreter: Interpreter | Unavailable,
    report: Report = silent,
    *,
    trust_remote_code: bool = False,
) -> Model:
    """The model `spec`, ready to run; immediate if it was prepared before. Raises ModelError.

    Code that comes with it is fetched, and run to convert its tokeniser, only with `trust_remote_code`.
    `interpreter` is what `environments.resolve("torch", …)` gave: it is needed for what must be converted or drawn.
    Two at once: the second waits for the first. An exception out of `report` stops the work and leaves nothing behind.
    """
    root = subfolder(home, MODELS)
    source = source_of(spec)
    try:
        match source:
            case Packaged():
                return _made(root, source.name, source, interpreter, report)
            case Synthetic():
                return _made(root, _synthetic_key(source), source, interpreter, report)
            case InFolder():
                name, exact = source.path.name, str(source.path)
                _folder_prospect(source.path, home, trust_remote_code)
                taken = _Taken(_folder_key(source.path), name, exact, source.path, trust_remote_code)
                return taken.prepared(root, interpreter, report)
            case AsGguf():
                return _given(root, source.path, interpreter, report)
            case OnHub():
                report(Progress("fetch", f"asking the Hub for {source.repository}"))
                listing = hub.look_up(source)
                folder = hub.fetch(listing, report, trust_remote_code)
                _folder_facts(folder, trust_remote_code)
                exact = f"{source.repository}@{listing.commit}"
                key = _hub_key(source, listing.commit, folder)
                return _Taken(key, source.repository, exact, folder, trust_remote_code).prepared(
                    root, interpreter, report
                )
    except (PathError, GgufError, WeightsError, ConfigError, TokeniserError) as error:
        raise ModelError(str(error)) from error
    except OSError as error:
        raise ModelError(f"The model {spec} cannot be prepared in {root}: {reason(error)}.") from error


def listed(home: Path) -> list[ListedModel]:
    """The models in the home, usable or not, and those that Kasoku can create."""
    root = home / MODELS
    rows: list[ListedModel] = []
    seen: set[str] = set()
    for folder in whole_folder.whole(root):
        model = remembered(home, folder.name)
        spec = model.source if model is not None else manifest_of(folder).get("spec")
        size = sum(
            path.stat().st_size for path in folder.iterdir() if os.path.isfile(path) and not os.path.islink(path)
        )
        name = str(spec or folder.name)
        seen.add(name)
        summary = (
            "" if model is not None else "its files are missing or have changed; it will be prepared again when used"
        )
        rows.append(ListedModel(name, summary, "ready" if model else "broken", model, folder, size))
    for leftover in whole_folder.leftovers(root):
        summary = "it is being created, or was interrupted; creating it again removes the leftovers"
        rows.append(ListedModel(whole_folder.meant_for(leftover), summary, "incomplete", None, leftover, None))
    can_be_made = {name: source.summary for name, source in PACKAGED.items()}
    can_be_made |= {SYNTHETIC + name: shape.summary for name, shape in shapes().items()}
    rows += [
        ListedModel(name, summary, "available", None, None, None)
        for name, summary in can_be_made.items()
        if name not in seen
    ]
    return rows


def _folder_prospect(folder: Path, home: Path, trust_remote_code: bool) -> Prospect:
    known = _folder_facts(folder, trust_remote_code)
    ready = remembered(home, _folder_key(folder))
    slow = ready is None and _slow_tokeniser(folder)
    return Prospect(str(folder), folder.name, ready, known.context_length, known.vocab_size, slow, 0)


def _hub_prospect(spec: str, source: OnHub, home: Path, trust_remote_code: bool) -> Prospect:
    listing = hub.look_up(source)
    folder = hub.fetch_small(listing, silent, trust_remote_code)
    if listing.cached is not None:
        known = _folder_facts(folder, trust_remote_code)
        size: int | None = 0
    else:
        sizes = [listing.sizes[name] for name in hub.weight_names(listing)]
        known = _facts_of_files(folder, trust_remote_code)
        size = sum(each or 0 for each in sizes) if all(sizes) else None
    ready = remembered(home, _hub_key(source, listing.commit, folder))
    needed = ready is None and _slow_tokeniser(folder)
    exact = f"{source.repository}@{listing.commit}"
    return Prospect(
        exact if source.revision != "main" else spec,
        source.repository,
        ready,
        known.context_length,
        known.vocab_size,
        needed,
        0 if ready else size,
    )


def _folder_facts(folder: Path, trust_remote_code: bool) -> ConfigFacts:
    """The facts of a folder with a complete model. Raises one of the errors that say what is wrong with it."""
    there = kind(folder)
    if there == "absent":
        raise ModelError(f"The folder {folder} does not exist.")
    if there != "folder":
        raise ModelError(f"{folder} is a file; name the folder that holds config.json and the safetensors.")
    files = sorted(folder.iterdir())
    if kind(folder / "config.json") == "absent":
        other = another_kind(folder, [path.name for path in files])
        raise ModelError(other or f"{folder} has no config.json, so it is not a model.")
    if pointers := [path.name for path in files if path.suffix in WATCHED and is_pointer(path)]:
        more = f" (and {len(pointers) - 1} more)" if len(pointers) > 1 else ""
        raise ModelError(
            f"{folder / pointers[0]}{more} is a pointer of Git LFS, not the file itself; run `git lfs pull` in the "
            "folder."
        )
    known = _facts_of_files(folder, trust_remote_code)
    read_weights(folder)
    if kind(folder / TOKENISER_FILE) != "absent":
        Tokeniser(folder)
    return known


def _facts_of_files(folder: Path, trust_remote_code: bool) -> ConfigFacts:
    """The facts of a folder whose weights may still be missing."""
    known = facts_in(folder)
    quantisation_in(folder)
    if trust_remote_code:
        check_code(folder)
    return known


def _slow_tokeniser(folder: Path) -> bool:
    """Whether the tokeniser is one that only transformers can read."""
    return not os.path.exists(folder / TOKENISER_FILE) and any(
        os.path.exists(folder / name) for name in hub.CONVERTIBLE
    )


def _made(
    root: Path, key: str, source: Packaged | Synthetic, interpreter: Interpreter | Unavailable, report: Report
) -> Model:
    """A model whose weights are created here."""
    name = source.name if isinstance(source, Packaged) else SYNTHETIC + source.name
    with file_lock.held(whole_folder.lock_of(root, key), f"model {name}", report):
        if (model := remembered(root.parent, key)) is not None:
            return model
        python = _needed(interpreter, name)
        with whole_folder.made(root, key) as making:
            if isinstance(source, Packaged):
                versions = make_packaged(source, making, python, report)
            else:
                versions = make_synthetic(source, making, python, report)
            remember(making, name, name, None, making, versions, report)
    return _again(root, key)


def _given(root: Path, path: Path, interpreter: Interpreter | Unavailable, report: Report) -> Model:
    """A user's GGUF, which stays where it is: its facts and its tokeniser beside links to its parts."""
    key = _gguf_key(path)
    with file_lock.held(whole_folder.lock_of(root, key), f"model {path.name}", report):
        if (model := remembered(root.parent, key)) is not None:
            return model
        python = _needed(interpreter, path.name)
        with whole_folder.made(root, key) as making:
            files = gguf_files(path)
            remember_gguf(making, path, files, make_of_gguf(path.name, files, making, python, report), report)
    return _again(root, key)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A model whose weights stay where they are, as does its folder if every engine loads the right files from it."""

    key: str
    name: str
    exact: str
    folder: Path
    trust_remote_code: bool

    def prepared(self, root: Path, interpreter: Interpreter | Unavailable, report: Report) -> Model:
        with file_lock.held(whole_folder.lock_of(root, self.key), f"model {self.name}", report):
            if (model := remembered(root.parent, self.key)) is not None:
                return model
            slow = _slow_tokeniser(self.folder)
            with whole_folder.made(root, self.key) as making:
                if slow or left_out(self.folder) or misread_by_old(read_json(self.folder / "config.json")):
                    python = _needed(interpreter, self.name) if slow else None
                    trusted = self.trust_remote_code
                    versions = make_readable(self.folder, making, python, report, trust_remote_code=trusted)
                    remember(making, self.name, self.exact, None, making, versions, report, self.folder)
                else:
                    remember(making, self.name, self.exact, self.folder, self.folder, {}, report)
        return _again(root, self.key)


def _needed(interpreter: Interpreter | Unavailable, name: str) -> Interpreter:
    if isinstance(interpreter, Unavailable):
        raise ModelError(f"{name} must be converted first: {interpreter.reason} Fix: `{interpreter.remedy}`.")
    return interpreter


def _again(root: Path, key: str) -> Model:
    model = remembered(root.parent, key)
    if model is None:
        raise ModelError(f"The model in {root / key} changed while it was being prepared; try again.")
    return model


def _synthetic_key(shape: Synthetic) -> str:
    content = json.dumps([shape.seed, shape.config], sort_keys=True)
    return f"synthetic-{shape.name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _gguf_key(path: Path) -> str:
    return _folder_key(path).replace("folder-", "gguf-", 1)


def _folder_key(folder: Path) -> str:
    name = re.sub(r"[^\w.-]", "_", folder.name)[:64]
    return f"folder-{name}-{hashlib.sha256(str(folder).encode(errors='surrogateescape')).hexdigest()[:12]}"


def _hub_key(source: OnHub, commit: str, folder: Path) -> str:
    """With its code fetched, a model is another one than without."""
    key = f"hub-{source.repository.replace('/', '--')}-{commit[:12]}"
    return f"{key}-code" if code_files(folder) else key
