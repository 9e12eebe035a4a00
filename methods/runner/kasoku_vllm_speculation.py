"""Speculative decoding in vLLM: what it is told, and what its workers and its front end counted."""

from __future__ import annotations

import functools
from pathlib import Path

from kasoku_converted import converted_folder
from kasoku_engine import UnsupportedError


def speculative_config(job: dict, speculation: dict) -> dict:
    """vLLM's speculative_config for the option `speculation`. Raises UnsupportedError."""
    by = speculation.get("by")
    if by == "ngram" and set(speculation) == {"by", "tokens", "longest_match"}:
        return {
            "method": "ngram",
            "num_speculative_tokens": speculation["tokens"],
            "prompt_lookup_max": speculation["longest_match"],
            "prompt_lookup_min": 1,
        }
    if by == "draft-model" and set(speculation) | {"draft"} == {"by", "tokens", "draft"}:
        return {
            "method": "draft_model",
            "model": str(speculation.get("draft") or converted_folder(job)),
            "num_speculative_tokens": speculation["tokens"],
        }
    raise UnsupportedError(
        'The option speculation is {by = "ngram", tokens = N, longest_match = N}, or {by = "draft-model", tokens = N}'
        ' with a folder as draft or with the conversion "first-layers".'
    )


def draft_folders(config: object) -> list:
    """The folder of the model that drafts, by vLLM's whole configuration; nothing where none does."""
    speculation = getattr(config, "speculative_config", None)
    return [Path(speculation.model)] if getattr(speculation, "method", None) == "draft_model" else []


class VllmSpeculation:
    """Mixed into the engine: `self.engine` is its AsyncLLM, `self._ask` calls its workers.

    A step of the model is one output of the engine's core with new ids, as it comes into this process, where several
    may be merged before anybody reads them; drafts are counted in the worker that checks them.
    """

    def count_speculation(self) -> None:
        """Count from now on; nothing without speculation."""
        self.steps = self.new_tokens = self.drafted_before = 0
        self.counts_of_timed: list = []
        if not self.options.get("speculation"):
            return
        self._ask("kasoku_count_drafts")
        processor = self.engine.output_processor
        take = processor.process_outputs

        @functools.wraps(take)
        def counted(outputs: list, *arguments: object, **named: object) -> object:
            for output in outputs:
                if output.new_token_ids:
                    self.steps += 1
                    self.new_tokens += len(output.new_token_ids)
            return take(outputs, *arguments, **named)

        processor.process_outputs = counted

    def speculated(self) -> dict:
        if not self.options.get("speculation"):
            return {}
        drafted = self._ask("kasoku_drafts")[0]["drafted"]
        counts = {
            "decode_steps": self.steps,
            "drafted_tokens": drafted - self.drafted_before,
            "accepted_tokens": self.new_tokens - self.steps,
        }
        self.steps = self.new_tokens = 0
        self.drafted_before = drafted
        self.counts_of_timed.append(counts)
        return counts

    def speculation_facts(self) -> dict:
        """Who drafted, and the sums over the timed requests."""
        if not self.options.get("speculation"):
            return {"drafter": None, "drafted_tokens": 0}
        names = ("decode_steps", "drafted_tokens", "accepted_tokens")
        return {
            "drafter": self._ask("kasoku_drafts")[0]["drafter"],
            **{name: sum(each[name] for each in self.counts_of_timed) for name in names},
        }


class DraftCounts:
    """Mixed into a worker (kasoku_vllm_worker): `self.model_runner` is its own."""

    def kasoku_draft_weights(self) -> list:
        """The tensors of a model that drafts; nothing where none does."""
        model = getattr(getattr(self.model_runner, "drafter", None), "model", None)
        return list(model.parameters()) if hasattr(model, "parameters") else []

    def kasoku_count_drafts(self) -> None:
        """Count the drafts that are checked from now on."""
        self.kasoku_drafted = 0
        check = self.model_runner.rejection_sampler.forward

        def counted(metadata: object, *arguments: object, **named: object) -> object:
            self.kasoku_drafted += sum(metadata.num_draft_tokens)
            return check(metadata, *arguments, **named)

        self.model_runner.rejection_sampler.forward = counted

    def kasoku_drafts(self) -> dict:
        """How many were checked, and who drafted them."""
        return {"drafted": self.kasoku_drafted, "drafter": type(self.model_runner.drafter).__name__}
