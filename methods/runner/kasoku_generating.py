"""Ways of generating with a model of transformers, one prompt at a time: `model.generate` as it is."""

from __future__ import annotations

import copy

import kasoku_generation_config as configs
import kasoku_torch_facts as torch_facts
from kasoku_engine import UnsupportedError
from kasoku_transformers_hooks import Arrivals, BatchArrivals, forcing, noting_margins, observed_processors, stopping_at

A_FEW = 3


class Generating:
    """`generate` of `model`, which may wrap `bare_model`; `Arrivals` timestamps each token as it arrives.

    `config` is the model's generation config from here on: transformers would fill gaps in one that is handed over with
    the model's defaults. Attention may use the kernels `backends` (see torch_facts.sdpa_restricted_to).
    """

    in_threads = False
    """Whether what a profiler is to see happens in other threads than the caller's."""

    def __init__(self, model: object, bare_model: object, config: object, backends: list | None) -> None:
        self.model, self.bare_model, self.config, self.backends = model, bare_model, config, backends
        bare_model.generation_config = config
        self._arrivals = Arrivals(bare_model)
        self._filled: object = None

    @property
    def cache(self) -> str:
        """The kind of cache that the settings ask for."""
        return getattr(self.config, "cache_implementation", None) or "dynamic"

    def stream(self, request: object, emit: object) -> None:
        """One response, its new ids to `emit` as they arrive."""
        self._arrivals.begin(emit, len(request.prompt_ids))
        output = self._generate(request.prompt_ids, self._config_of(request), **self._taken())
        self._arrivals.finish(output[0])

    def fill(self, requests: list) -> None:
        """Before they begin: the first `depth` ids of each prompt into a cache, which the next call goes on from."""
        import torch

        self._filled = None
        depth = requests[0].depth
        if depth:
            rows = [request.prompt_ids[:depth] for request in requests]
            ids = torch.tensor(rows, dtype=torch.long, device=self.bare_model.device)
            with torch.no_grad(), torch_facts.sdpa_restricted_to(self.backends):
                self._filled = self.model(ids, use_cache=True).past_key_values

    def _taken(self) -> dict:
        filled, self._filled = self._filled, None
        return {} if filled is None else {"past_key_values": filled}

    def serve(self, load: object) -> None:
        """Batch after batch, each in one call: rows of unlike lengths are padded on the left."""
        import torch

        while not load.over:
            self.fill(load.coming())
            requests = load.take()
            rows = [request.prompt_ids for request in requests]
            longest = max(map(len, rows))
            pad = self.config.pad_token_id
            ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=self.bare_model.device)
            mask = torch.tensor(
                [[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self.bare_model.device
            )
            batch = BatchArrivals(load, requests)
            self._arrivals.begin(batch, longest)
            with torch_facts.sdpa_restricted_to(self.backends):
                config = self._config_of(requests[0])
                output = self.model.generate(ids, attention_mask=mask, generation_config=config, **self._taken())
            self._arrivals.finish(output)
            for request in requests:
                request.cached_prompt_tokens = request.depth  # every call begins with an otherwise empty cache
            load.end_all(requests)

    def reset(self) -> None:
        """After a failure, perhaps: what it left in memory is let go of."""
        self._arrivals.forget()
        self._filled = None

    def whole(self, prompt_ids: list) -> list:
        """One response's new ids, handed over at its end."""
        return self._generate(prompt_ids, self.config)[0, len(prompt_ids) :].tolist()

    def a_few(self, prompt_ids: list) -> object:
        """Three tokens by the code that was timed; returns the cache that was used, None where it is not handed out.

        Stopped early: asking for fewer would resize a static cache.
        """
        stop_at = len(prompt_ids) + min(A_FEW, self.config.max_new_tokens)
        config = copy.deepcopy(self.config)
        config.return_dict_in_generate = True  # hands out the cache
        output = self._generate(prompt_ids, config, stopping_criteria=stopping_at(stop_at))
        return getattr(output, "past_key_values", None)

    def observed(self) -> object:
        """A context whose target is a list of what is applied to the logits meanwhile: [{name, setting: value}]."""
        return observed_processors()

    def greedy(self, prompt_ids: list) -> dict:
        """`ids` and `margins` of a greedy response (see Engine.greedy)."""
        margins: list = []
        output = self._generate(prompt_ids, configs.greedy(self.config), logits_processor=noting_margins(margins))
        sequence = getattr(output, "sequences", output)
        return {"ids": sequence[0, len(prompt_ids) :].tolist(), "margins": margins}

    def forced(self, prompt: list, ids: list) -> object:
        """The logits [ids, vocabulary] from which each of `ids` is taken, one step at a time, after `prompt`."""
        import torch

        rows: list = []
        config = configs.greedy(self.config)
        config.eos_token_id = None
        self.bare_model.generation_config = config  # or transformers fills the gap
        try:
            until = stopping_at(len(prompt) + len(ids))  # asking for fewer new tokens would resize a static cache
            output = self._generate(prompt, config, logits_processor=forcing(ids, rows), stopping_criteria=until)
        finally:
            self.bare_model.generation_config = self.config
        if getattr(output, "sequences", output)[0].tolist() != [*prompt, *ids]:
            raise UnsupportedError("This model's `generate` does not take the ids that are forced upon it.")
        return torch.stack(rows)

    def models(self) -> list:
        """All whose weights are held."""
        return [self.bare_model]

    def counts(self) -> dict:
        """What speculation did for the last response (see Engine.speculated)."""
        return {}

    def speculation(self, counts: list) -> dict:  # noqa: ARG002
        """Facts of the speculation whose `counts` those of some responses are."""
        return {"drafter": None, "drafted_tokens": 0}

    def close(self) -> None:
        """Release the model and end what was started."""
        del self.model, self.bare_model, self._arrivals

    def _config_of(self, request: object) -> object:
        """The settings, with the request's own length."""
        if request.max_new_tokens == self.config.max_new_tokens:
            return self.config
        config = copy.deepcopy(self.config)
        config.max_new_tokens = request.max_new_tokens
        return config

    def _generate(self, prompt_ids: list, config: object, **more: object) -> object:
        import torch

        ids = torch.tensor([prompt_ids], dtype=torch.long, device=self.bare_model.device)
        with torch_facts.sdpa_restricted_to(self.backends):
            return self.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config, **more)
