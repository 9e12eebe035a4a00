# mypy: ignore-errors
# It runs in the runner, where mypy does not go.
"""transformers' engine with a fault in the model that it has loaded, named by its option `fault`, drawn by `seed`.

scaled      the MLP of the layer `layer` scaled by `factor`
head        one attention head's output projection transposed, block by block, in one layer
rope        RoPE with a base of 10,000
dropped     the last layer left out
rounded     the weights of the layers' linear parts rounded to `bits`, with a scale for each row
late        a decode step from 64 positions on is told the position before its own; a whole prompt is not

With the option `prefill_only` it scores no decoding, which takes most of the time.
"""

from __future__ import annotations

import random

from kasoku_engine import UnsupportedError
from kasoku_engines.kasoku_transformers import TransformersEngine

LATE = 64


def plant_head(torch: object, model: object, drawn: random.Random) -> None:
    attention = drawn.choice(model.model.layers).self_attn
    width = attention.head_dim
    first = drawn.randrange(model.config.num_attention_heads) * width
    for row in range(0, attention.o_proj.weight.shape[0], width):
        block = attention.o_proj.weight[row : row + width, first : first + width]
        block.copy_(block.T.clone())


def plant_rope(torch: object, model: object, drawn: random.Random) -> None:
    rotary = model.model.rotary_emb
    width = 2 * len(rotary.inv_freq)
    places = torch.arange(0, width, 2, device=rotary.inv_freq.device).float()
    rotary.inv_freq.copy_(10_000.0 ** (-places / width))


def plant_dropped(torch: object, model: object, drawn: random.Random) -> None:
    model.model.layers = model.model.layers[:-1]


def plant_late(torch: object, model: object, drawn: random.Random) -> None:
    rotary = model.model.rotary_emb
    own = rotary.forward

    def late(states: object, position_ids: object, **more: object) -> object:
        if position_ids.shape[-1] == 1:
            position_ids = position_ids - (position_ids >= LATE).long()
        return own(states, position_ids, **more)

    rotary.forward = late


def round_weights(torch: object, model: object, bits: int) -> None:
    most = 2 ** (bits - 1) - 1
    for part in model.model.layers.modules():
        if isinstance(part, torch.nn.Linear):
            scale = part.weight.abs().amax(dim=1, keepdim=True) / most
            part.weight.copy_((part.weight / scale).round().clamp(-most, most) * scale)


FAULTS = {"head": plant_head, "rope": plant_rope, "dropped": plant_dropped, "late": plant_late}


class Faulty(TransformersEngine):
    def load(self, job: dict) -> dict:
        options = dict(job["options"])
        fault, seed, layer = options.pop("fault", None), options.pop("seed", 0), options.pop("layer", 0)
        factor, bits = options.pop("factor", 1.0), options.pop("bits", 8)
        self.prefill_only = options.pop("prefill_only", False)
        said = super().load({**job, "options": options})
        with self.torch.no_grad():
            if fault == "scaled":
                self.bare_model.model.layers[layer].mlp.down_proj.weight.mul_(factor)
            elif fault == "rounded":
                round_weights(self.torch, self.bare_model, bits)
            elif fault is not None:
                FAULTS[fault](self.torch, self.bare_model, random.Random(seed))  # noqa: S311
        return said

    def score_decode(self, ids: list, scored: int) -> object:
        if self.prefill_only:
            raise UnsupportedError("Decoding is not scored.")
        return super().score_decode(ids, scored)


ENGINE = Faulty
