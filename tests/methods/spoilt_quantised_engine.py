# mypy: ignore-errors
# It runs in the runner, where mypy does not go.
"""Kasoku's transformers engine, its quantisation spoilt after loading as the option `spoilt` says."""

from __future__ import annotations

import kasoku_transformers_loading as loading
from kasoku_engines.kasoku_transformers import TransformersEngine


def one_layer_plain(model: object) -> None:
    """One layer left as it was stored."""
    import torch

    mlp = model.model.layers[1].mlp
    old = mlp.down_proj
    mlp.down_proj = torch.nn.Linear(old.in_features, old.out_features, bias=False, dtype=torch.bfloat16)


def unpacked_at_load(model: object) -> None:
    """Every layer's weights back in the model's own type, their rounding kept."""
    import torch

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear) and child is not model.lm_head:
                plain = torch.nn.Linear(child.in_features, child.out_features, bias=False, dtype=torch.bfloat16)
                weight = child.weight
                if hasattr(weight, "dequantize") and not type(weight).__module__.startswith("bitsandbytes"):
                    plain.weight = torch.nn.Parameter(weight.dequantize(), requires_grad=False)
                setattr(module, name, plain)


SPOILS = {"one_layer_plain": one_layer_plain, "unpacked_at_load": unpacked_at_load}


class Spoilt(TransformersEngine):
    def load(self, job: dict) -> dict:
        options = dict(job["options"])
        spoil = SPOILS[options.pop("spoilt")]
        whole = loading.loaded

        def then_spoilt(*arguments: object) -> tuple:
            model, facts = whole(*arguments)
            spoil(model)
            return model, facts

        loading.loaded = then_spoilt
        return super().load({**job, "options": options})


ENGINE = Spoilt
