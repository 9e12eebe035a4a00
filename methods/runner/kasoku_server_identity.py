"""What a server that runs already says of itself and of its model, asked in the ways that each kind of server has."""

from __future__ import annotations

import kasoku_http
from kasoku_failure import ServerError

LOOK_S = 2.0
NAMES = {"vllm": "vLLM", "llamacpp": "llama.cpp", "sglang": "SGLang", "tensorrt_llm": "TensorRT-LLM"}  # by owned_by
NOTHING = {"name": None, "version": None, "form": None, "parameters": None}


def identity(server: kasoku_http.Server, owner: str, model: str) -> dict:
    """`name` and `version` of the server, `form` of the weights (Q4_K_M) and `parameters` (3.2B) of its model, as it
    says them; None where it does not.
    """
    if owner in NAMES:
        return {**NOTHING, "name": NAMES[owner]}
    return ollama(server, model) or lm_studio(server, model) or {**NOTHING, "name": owner or None}


def ollama(server: kasoku_http.Server, model: str) -> dict | None:
    """As Ollama documents GET /api/version and GET /api/tags; None where it is none."""
    version = field_of(answer(server, "/api/version"), "version")
    if version is None:
        return None
    details = field_of(row_of(answer(server, "/api/tags"), "models", "name", model), "details")
    said = {"name": "Ollama", "version": version}
    for name, field in (("form", "quantization_level"), ("parameters", "parameter_size")):
        said[name] = field_of(details, field)
    return spoken(server, said)


def lm_studio(server: kasoku_http.Server, model: str) -> dict | None:
    """As LM Studio documents GET /api/v0/models, which does not say its version; None where it is none."""
    row = row_of(answer(server, "/api/v0/models"), "data", "id", model)
    form = field_of(row, "quantization")
    return None if form is None else spoken(server, {**NOTHING, "name": "LM Studio", "form": form})


def version_at(server: kasoku_http.Server, path: str | None) -> str | None:
    """What vLLM, llama-server and SGLang say of their version at a path of their own; None where nothing is said."""
    told = answer(server, path) if path else None
    version = field_of(told, "version") or field_of(told, "build_info")
    return server.said(version) if version else None


def answer(server: kasoku_http.Server, path: str) -> object:
    """The answer to a GET; None where there is none to be had."""
    try:
        return server.ask(path, within_s=LOOK_S)
    except ServerError:
        return None


def row_of(told: object, rows: str, name: str, wanted: str) -> object:
    """The row whose field of that name is the one that is wanted."""
    found = field_of(told, rows)
    for row in found if isinstance(found, list) else ():
        if field_of(row, name) == wanted:
            return row
    return None


def field_of(told: object, name: str) -> object:
    return told.get(name) if isinstance(told, dict) else None


def spoken(server: kasoku_http.Server, said: dict) -> dict:
    """Each as a short line that can be shown."""
    return {name: server.said(value) if isinstance(value, (str, int, float)) else None for name, value in said.items()}
