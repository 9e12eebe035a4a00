"""A model that is ready to run, as far as a session needs to know it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that is ready to run. `source` names it exactly; None is what its config does not say.

    `weights_digest` is SHA-256 over what `sha256sum` prints for its weight files, `code_digest` the same for its Python
    files, where it has code of its own. `weights_bytes` counts tensors, and `dtype` is that of most of their bytes, by
    torch's name. `parameters` counts weights, packed ones too. `quantisation` is the method, None for plain weights.
    """

    name: str
    source: str
    folder: Path
    weights_digest: str
    parameters: int | None
    weights_bytes: int
    dtype: str
    architecture: str | None = None
    context_length: int | None = None
    vocab_size: int | None = None
    layers: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    hidden_size: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    has_tokeniser: bool = False
    has_chat_template: bool = False
    quantisation: str | None = None
    code_digest: str | None = None
