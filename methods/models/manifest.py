"""What is remembered of a prepared model, in its folder: what it is, and which files it was prepared from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from methods.base.bounded_read import read_regular
from methods.base.home import MODELS, write_atomically
from methods.base.progress import Report
from methods.base.user_path import PathError, kind
from methods.models.config import ConfigError, facts_in
from methods.models.gguf_files import METHOD as GGUF
from methods.models.model import Model
from methods.models.own_code import code_files, has_code
from methods.models.quantisation import parameters, quantisation_in
from methods.models.safetensors_folder import WeightsError, digest_of, identity, left_out, read_weights, sha256_of
from methods.text.chat_template import has_chat_template
from methods.text.tokeniser import FILE as TOKENISER_FILE
from methods.text.tokeniser import Tokeniser

MANIFEST = "kasoku-model.json"
MANIFEST_SCHEMA = 1
WATCHED = (".safetensors", ".json", ".jinja", ".model", ".txt", ".py")


def remember(
    making: Path,
    name: str,
    exact: str,
    elsewhere: Path | None,
    folder: Path,
    versions: Mapping[str, str],
    report: Report,
    origin: Path | None = None,
) -> None:
    """Write the manifest of the model in `folder`; `elsewhere` is that folder if it is outside the home, `origin` the
    one whose files are linked."""
    weights = read_weights(folder)
    known = facts_in(folder)
    quantised = quantisation_in(folder)
    phase = f"model {name}"
    digests = {path.name: sha256_of(path, report, phase) for path in weights.files}
    code = {path.name: sha256_of(path, report, phase) for path in code_files(folder)} if has_code(folder) else {}
    if elsewhere is None:
        for path in _read_by_runners(folder):
            settle(path)
    watched = _identities(folder)
    tokeniser = kind(folder / TOKENISER_FILE) != "absent"
    if tokeniser:
        Tokeniser(folder)
    model = {
        "name": name,
        "source": exact,
        "weights_digest": digest_of(digests),
        "parameters": parameters(weights.tensors, quantised),
        "weights_bytes": weights.total_bytes,
        "dtype": weights.dtype,
        **asdict(known),
        "has_tokeniser": tokeniser,
        "has_chat_template": tokeniser and has_chat_template(folder),
        "quantisation": quantised and quantised.method,
        "code_digest": digest_of(code) if code else None,
    }
    content = {
        "schema": MANIFEST_SCHEMA,
        "spec": exact,
        "folder": None if elsewhere is None else str(elsewhere),
        "model": model,
        "files": digests,
        "watched": watched,
        "origin": None if origin is None else {"folder": str(origin), "watched": _identities(origin)},
        "made_with": dict(versions),
    }
    write_atomically(making / MANIFEST, json.dumps(content, indent=1).encode())


def remember_gguf(making: Path, given: Path, files: Sequence[Path], said: Mapping[str, object], report: Report) -> None:
    """Write the manifest of a user's GGUF, whose facts the job `read-gguf` said. `given` is what the user named."""
    phase = f"model {given.name}"
    digests = {file.name: sha256_of(file, report, phase) for file in files}
    own = _read_by_runners(making)
    for path in own:
        settle(path)
    tokeniser = kind(making / TOKENISER_FILE) != "absent"
    if tokeniser:
        Tokeniser(making)
    model = {
        "name": given.name,
        "source": str(given),
        "weights_digest": digest_of(digests),
        "parameters": said.get("parameters"),
        "weights_bytes": said.get("weights_bytes") or 0,
        "dtype": said.get("dtype") or "",
        **asdict(facts_in(making)),
        "has_tokeniser": tokeniser,
        "has_chat_template": tokeniser and has_chat_template(making),
        "quantisation": GGUF,
        "code_digest": None,
    }
    content = {
        "schema": MANIFEST_SCHEMA,
        "spec": str(given),
        "folder": None,
        "model": model,
        "files": digests,
        "watched": {path.name: identity(path) for path in (*own, *(making / file.name for file in files))},
        "origin": None,
        "made_with": said.get("versions"),
        "types": said.get("types"),
        "tokeniser": said.get("tokeniser"),
    }
    write_atomically(making / MANIFEST, json.dumps(content, indent=1).encode())


def remembered(home: Path, key: str) -> Model | None:
    """The prepared model for this key; None if missing, or if its files are not the ones it was prepared from."""
    own = home / MODELS / key
    manifest = manifest_of(own)
    try:
        elsewhere = manifest["folder"]
        folder = own if elsewhere is None else Path(str(elsewhere))
        watched = _identities_said(manifest["watched"])
        if any(identity(folder / name) != was for name, was in watched.items()):
            return None
        if elsewhere is not None and (left_out(folder) or _identities(folder).keys() != watched.keys()):
            return None
        origin = manifest.get("origin")
        if isinstance(origin, dict) and _identities(Path(origin["folder"])) != _identities_said(origin["watched"]):
            return None
        fields = dict(manifest["model"])  # type: ignore[call-overload]
        if "quantisation" not in fields and quantisation_in(folder) is not None:  # by a version that counted otherwise
            return None
        return Model(**{**fields, "eos_token_ids": tuple(fields["eos_token_ids"]), "folder": folder})
    except (OSError, KeyError, TypeError, ValueError, PathError, WeightsError, ConfigError):
        return None


def _read_by_runners(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix in WATCHED and os.path.isfile(path)]


def _identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Each file that a runner may read, by name, as `identity` tells it."""
    return {path.name: identity(path) for path in _read_by_runners(folder)}


def _identities_said(said: object) -> dict[str, tuple[int, int]]:
    """The same from a manifest. Raises TypeError or ValueError where it is none."""
    if not isinstance(said, dict):
        raise TypeError(said)
    return {name: (int(size), int(changed)) for name, (size, changed) in said.items()}


def manifest_of(folder: Path) -> dict[str, object]:
    """The manifest in a prepared model's folder; empty where there is none that can be read."""
    try:
        content = json.loads(read_regular(folder / MANIFEST).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and content.get("schema") == MANIFEST_SCHEMA else {}


def settle(path: Path) -> None:
    """Make a file of ours durable and the user's alone; a link's target is not ours."""
    if os.path.islink(path):
        return
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())
