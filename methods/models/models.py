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
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from methods.base import file_lock, whole_folder
from methods.base.home import MODELS, subfolder, write_atomically
from methods.base.interpreter import Interpreter, Unavailable
from methods.base.progress import Progress, Report, silent
from methods.base.user_path import PathError, kind, reason
from methods.models import hub
from methods.models.config import ConfigError, ConfigFacts, facts, misread_by_old, read_json
from methods.models.making import make_packaged, make_readable, make_synthetic
from methods.models.model import Model
from methods.models.safetensors_folder import WeightsError, digest_of, identity, read_weights, sha256_of
from methods.models.sources import (
    DEFAULT,
    PACKAGED,
    SYNTHETIC,
    InFolder,
    ModelError,
    OnHub,
    Packaged,
    Synthetic,
    shapes,
    source_of,
)
from methods.text.chat_template import chat_template
from methods.text.tokeniser import FILE as TOKENISER_FILE
from methods.text.tokeniser import Tokeniser, TokeniserError

__all__ = ["DEFAULT", "ListedModel", "Model", "ModelError", "Prospect", "check", "listed", "prepare"]

MANIFEST = "kasoku-model.json"
MANIFEST_SCHEMA = 1
WATCHED = (".safetensors", ".json", ".jinja", ".model", ".txt")


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


def check(spec: str, home: Path) -> Prospect:
    """Check that `spec` names a model that can be measured. Fetches at most its small files. Raises ModelError."""
    source = source_of(spec)
    try:
        match source:
            case Packaged():
                ready = _remembered(home, source.name)
                size = None if ready else source.download_bytes
                return Prospect(spec, spec, ready, source.context_length, source.vocab_size, ready is None, size)
            case Synthetic():
                ready = _remembered(home, _synthetic_key(source))
                known = facts(source.config)
                return Prospect(spec, spec, ready, known.context_length, known.vocab_size, ready is None, 0)
            case InFolder():
                return _folder_prospect(source.path, home)
            case OnHub():
                return _hub_prospect(spec, source, home)
    except (PathError, WeightsError, ConfigError, TokeniserError) as error:
        raise ModelError(str(error)) from error
    except OSError as error:
        raise ModelError(f"The model {spec} cannot be read: {reason(error)}.") from error


def prepare(spec: str, home: Path, interpreter: Interpreter | Unavailable, report: Report = silent) -> Model:
    """The model `spec`, ready to run; immediate if it was prepared before. Raises ModelError.

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
                _folder_prospect(source.path, home)
                return _taken(root, _folder_key(source.path), name, exact, source.path, interpreter, report)
            case OnHub():
                report(Progress("fetch", f"asking the Hub for {source.repository}"))
                listing = hub.look_up(source)
                folder = hub.fetch(listing, report)
                _folder_facts(folder)
                exact = f"{source.repository}@{listing.commit}"
                key = _hub_key(source, listing.commit)
                return _taken(root, key, source.repository, exact, folder, interpreter, report)
    except (PathError, WeightsError, ConfigError, TokeniserError) as error:
        raise ModelError(str(error)) from error
    except OSError as error:
        raise ModelError(f"The model {spec} cannot be prepared in {root}: {reason(error)}.") from error


def listed(home: Path) -> list[ListedModel]:
    """The models in the home, usable or not, and those that Kasoku can create."""
    root = home / MODELS
    rows: list[ListedModel] = []
    seen: set[str] = set()
    for folder in whole_folder.whole(root):
        model = _remembered(home, folder.name)
        spec = model.source if model is not None else _manifest(folder).get("spec")
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


def _folder_prospect(folder: Path, home: Path) -> Prospect:
    known = _folder_facts(folder)
    ready = _remembered(home, _folder_key(folder))
    slow = ready is None and _slow_tokeniser(folder)
    return Prospect(str(folder), folder.name, ready, known.context_length, known.vocab_size, slow, 0)


def _hub_prospect(spec: str, source: OnHub, home: Path) -> Prospect:
    listing = hub.look_up(source)
    folder = hub.fetch_small(listing, silent)
    if listing.cached is not None:
        known = _folder_facts(folder)
        size: int | None = 0
    else:
        sizes = [listing.sizes[name] for name in hub.weight_names(listing)]
        known = _config_facts(folder)
        size = sum(each or 0 for each in sizes) if all(sizes) else None
    ready = _remembered(home, _hub_key(source, listing.commit))
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


def _folder_facts(folder: Path) -> ConfigFacts:
    """The facts of a folder with a complete model. Raises one of the errors that say what is wrong with it."""
    there = kind(folder)
    if there == "absent":
        raise ModelError(f"The folder {folder} does not exist.")
    if there != "folder":
        raise ModelError(f"{folder} is a file; name the folder that holds config.json and the safetensors.")
    if kind(folder / "config.json") == "absent":
        raise ModelError(f"{folder} has no config.json, so it is not a model.")
    known = _config_facts(folder)
    read_weights(folder)
    if kind(folder / TOKENISER_FILE) != "absent":
        Tokeniser(folder)
    return known


def _config_facts(folder: Path) -> ConfigFacts:
    generation = folder / "generation_config.json"
    return facts(read_json(folder / "config.json"), read_json(generation) if kind(generation) != "absent" else None)


def _slow_tokeniser(folder: Path) -> bool:
    """Whether the tokeniser is one that only transformers can read."""
    return not os.path.exists(folder / TOKENISER_FILE) and any(
        os.path.exists(folder / name) for name in (*hub.SLOW_TOKENISERS[:4], "vocab.txt", "merges.txt")
    )


def _made(
    root: Path, key: str, source: Packaged | Synthetic, interpreter: Interpreter | Unavailable, report: Report
) -> Model:
    """A model whose weights are created here."""
    name = source.name if isinstance(source, Packaged) else SYNTHETIC + source.name
    with file_lock.held(whole_folder.lock_of(root, key), f"model {name}", report):
        if (model := _remembered(root.parent, key)) is not None:
            return model
        python = _needed(interpreter, name)
        with whole_folder.made(root, key) as making:
            if isinstance(source, Packaged):
                versions = make_packaged(source, making, python, report)
            else:
                versions = make_synthetic(source, making, python, report)
            _remember(making, name, name, None, making, versions, report)
    return _again(root, key)


def _taken(
    root: Path,
    key: str,
    name: str,
    exact: str,
    folder: Path,
    interpreter: Interpreter | Unavailable,
    report: Report,
) -> Model:
    """A model whose weights stay where they are, as does its folder if a runner can read it as it is."""
    with file_lock.held(whole_folder.lock_of(root, key), f"model {name}", report):
        if (model := _remembered(root.parent, key)) is not None:
            return model
        slow = _slow_tokeniser(folder)
        with whole_folder.made(root, key) as making:
            if slow or misread_by_old(read_json(folder / "config.json")):
                versions = make_readable(folder, making, _needed(interpreter, name) if slow else None, report)
                _remember(making, name, exact, None, making, versions, report)
            else:
                _remember(making, name, exact, folder, folder, {}, report)
    return _again(root, key)


def _needed(interpreter: Interpreter | Unavailable, name: str) -> Interpreter:
    if isinstance(interpreter, Unavailable):
        raise ModelError(f"{name} must be converted first: {interpreter.reason} Fix: `{interpreter.remedy}`.")
    return interpreter


def _remember(
    making: Path,
    name: str,
    exact: str,
    elsewhere: Path | None,
    folder: Path,
    versions: Mapping[str, str],
    report: Report,
) -> None:
    """Write the manifest of the model in `folder`; `elsewhere` is that folder if it is outside the home."""
    weights = read_weights(folder)
    known = _config_facts(folder)
    digests = {path.name: sha256_of(path, report, f"model {name}") for path in weights.files}
    read_by_runners = [path for path in sorted(folder.iterdir()) if path.suffix in WATCHED and os.path.isfile(path)]
    if elsewhere is None:
        for path in read_by_runners:
            _settle(path)
    watched = {path.name: identity(path) for path in read_by_runners}
    tokeniser = kind(folder / TOKENISER_FILE) != "absent"
    if tokeniser:
        Tokeniser(folder)
    model = {
        "name": name,
        "source": exact,
        "weights_digest": digest_of(digests),
        "parameters": weights.parameters,
        "weights_bytes": weights.total_bytes,
        "dtype": weights.dtype,
        **asdict(known),
        "has_tokeniser": tokeniser,
        "has_chat_template": tokeniser and chat_template(folder) is not None,
    }
    content = {
        "schema": MANIFEST_SCHEMA,
        "spec": exact,
        "folder": None if elsewhere is None else str(elsewhere),
        "model": model,
        "files": digests,
        "watched": watched,
        "made_with": dict(versions),
    }
    write_atomically(making / MANIFEST, json.dumps(content, indent=1).encode())


def _remembered(home: Path, key: str) -> Model | None:
    """The prepared model for this key; None if missing, or if its files are not the ones it was prepared from."""
    own = home / MODELS / key
    manifest = _manifest(own)
    try:
        elsewhere = manifest["folder"]
        folder = own if elsewhere is None else Path(str(elsewhere))
        for name, was in dict(manifest["watched"]).items():  # type: ignore[call-overload]
            if identity(folder / name) != tuple(was):
                return None
        fields = dict(manifest["model"])  # type: ignore[call-overload]
        return Model(**{**fields, "eos_token_ids": tuple(fields["eos_token_ids"]), "folder": folder})
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _manifest(folder: Path) -> dict[str, object]:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.get("schema") == MANIFEST_SCHEMA else {}


def _settle(path: Path) -> None:
    """Make a file of ours durable and the user's alone; a link's target is not ours."""
    if os.path.islink(path):
        return
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _again(root: Path, key: str) -> Model:
    model = _remembered(root.parent, key)
    if model is None:
        raise ModelError(f"The model in {root / key} changed while it was being prepared; try again.")
    return model


def _synthetic_key(shape: Synthetic) -> str:
    content = json.dumps([shape.seed, shape.config], sort_keys=True)
    return f"synthetic-{shape.name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _folder_key(folder: Path) -> str:
    name = re.sub(r"[^\w.-]", "_", folder.name)[:64]
    return f"folder-{name}-{hashlib.sha256(str(folder).encode(errors='surrogateescape')).hexdigest()[:12]}"


def _hub_key(source: OnHub, commit: str) -> str:
    return f"hub-{source.repository.replace('/', '--')}-{commit[:12]}"
