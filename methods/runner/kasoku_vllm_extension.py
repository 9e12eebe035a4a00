"""What vLLM's workers load as their extension: Kasoku's questions, and a note of parameters that nothing was read for.

vLLM refuses a model whose files lack a parameter, but lets pass those of linear layers, embeddings and heads.
"""

from __future__ import annotations

import functools

from kasoku_vllm_worker import UNREAD, WorkerFacts

__all__ = ["WorkerFacts"]


def note_unread() -> None:
    """Have vLLM's loader keep the names of what it did not find with the model; where it has no such step, nothing."""
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    track = getattr(DefaultModelLoader, "track_weights_loading", None)
    if track is None:
        return

    @functools.wraps(track)
    def noted(loader: object, model: object, loaded: set | None, *arguments: object, **named: object) -> object:
        if loaded is not None:
            held = dict(model.named_parameters())
            setattr(model, UNREAD, sorted(name for name, value in held.items() if name not in loaded and value.numel()))
        return track(loader, model, loaded, *arguments, **named)

    DefaultModelLoader.track_weights_loading = noted


note_unread()
