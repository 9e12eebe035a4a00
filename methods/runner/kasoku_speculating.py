"""Speculative decoding by transformers: a step of the model checks drafts, and takes those before the first wrong one.

The option `speculation` says who drafts: {"by": "prompt-lookup", "tokens": 8, "longest_match": 3}, or
{"by": "assistant", "tokens": 5}, with the draft model in the folder `draft`, else in that of the method's conversion.
"""

from __future__ import annotations

import copy
import functools

import kasoku_generation_config as configs
from kasoku_engine import UnsupportedError
from kasoku_generating import A_FEW, Generating
from kasoku_transformers_hooks import leaving, margin_of, row_of, stopping_at


def checked(speculation: dict) -> dict:
    """The option, where it is one of these. Raises UnsupportedError."""
    names = set(speculation)
    if speculation.get("by") == "prompt-lookup":
        known = names == {"by", "tokens", "longest_match"}
    else:
        known = speculation.get("by") == "assistant" and names | {"draft"} == {"by", "tokens", "draft"}
    if not known:
        raise UnsupportedError(
            'The option speculation is {by = "prompt-lookup", tokens = N, longest_match = N}, or {by = "assistant",'
            ' tokens = N} with a folder as draft or with the conversion "first-layers".'
        )
    return speculation


def draft_model(transformers: object, folder: object, arguments: dict, tokens: int) -> object:
    """The model that drafts, loaded as its target was; it drafts so many tokens each time."""
    draft = transformers.AutoModelForCausalLM.from_pretrained(folder, **arguments).eval()
    draft.generation_config = transformers.GenerationConfig(
        num_assistant_tokens=tokens,
        num_assistant_tokens_schedule="constant",
        assistant_confidence_threshold=0.0,
        do_sample=False,
        pad_token_id=0,
    )
    return draft


class Speculating(Generating):
    """`generate` with drafts. All ids that a step accepts arrive at once, when the next one begins.

    `steps`, `drafted` and `accepted` count over the last response: each step gives one id of the model's own choice
    after those of the draft that it accepted.
    """

    def __init__(
        self, model: object, config: object, backends: list | None, speculation: dict, assistant: object
    ) -> None:
        config = copy.deepcopy(config)
        if assistant is None:
            config.update(
                prompt_lookup_num_tokens=speculation["tokens"], max_matching_ngram_size=speculation["longest_match"]
            )
        self.model = self.bare_model = model
        self.config, self.backends = config, backends
        self.assistant = assistant
        self.drafter: str | None = None
        model.generation_config = config
        self._emit: object = None
        self._length = 0
        generator_of = model._get_candidate_generator

        @functools.wraps(generator_of)
        def observed(*arguments: object, **named: object) -> object:
            return self._observed(generator_of(*arguments, **named))

        model._get_candidate_generator = observed

    def reset(self) -> None:
        """Nothing of a request is left."""

    def stream(self, request: object, emit: object) -> None:
        self._emit = emit
        try:
            output = self._generate(request.prompt_ids, self._config_of(request))
            self._arrived(output)
        finally:
            self._emit = None

    def greedy(self, prompt_ids: list) -> dict:
        margins: dict = {}
        output = self._generate(
            prompt_ids, configs.greedy(self.config), logits_processor=processing(margin_of, margins, len(prompt_ids))
        )
        ids = output[0, len(prompt_ids) :].tolist()
        return {"ids": ids, "margins": [margins.get(place) for place in range(len(ids))]}

    def forced(self, prompt: list, ids: list) -> object:
        import torch

        rows: dict = {}
        config = configs.greedy(self.config)
        config.eos_token_id = None
        config.max_new_tokens = len(ids)
        self.bare_model.generation_config = config  # or transformers fills the gap
        try:
            output = self._generate(prompt, config, logits_processor=processing(row_of, rows, len(prompt), ids))
        finally:
            self.bare_model.generation_config = self.config
        if output[0].tolist() != [*prompt, *ids]:
            raise UnsupportedError("This model's speculative `generate` does not take the ids that are forced upon it.")
        return torch.stack([rows[place] for place in range(len(ids))])

    def a_few(self, prompt_ids: list) -> object:
        config = copy.deepcopy(self.config)
        config.return_dict_in_generate = True
        until = stopping_at(len(prompt_ids) + min(A_FEW, config.max_new_tokens))
        return getattr(self._generate(prompt_ids, config, stopping_criteria=until), "past_key_values", None)

    def models(self) -> list:
        return [self.bare_model, *([] if self.assistant is None else [self.assistant])]

    def counts(self) -> dict:
        return {"decode_steps": self.steps, "drafted_tokens": self.drafted, "accepted_tokens": self.accepted}

    def speculation(self, counts: list) -> dict:
        return {"drafter": self.drafter, **{name: sum(each[name] for each in counts) for name in self.counts()}}

    def close(self) -> None:
        del self.model, self.bare_model, self.assistant

    def _generate(self, prompt_ids: list, config: object, **more: object) -> object:
        self._length = len(prompt_ids)
        self.steps = self.drafted = 0
        if self.assistant is not None:
            more["assistant_model"] = self.assistant
        output = super()._generate(prompt_ids, config, **more)
        if self.steps == 0:
            raise UnsupportedError("This transformers does not draft for this model.")
        self.accepted = getattr(output, "sequences", output).shape[1] - len(prompt_ids) - self.steps
        return output

    def _observed(self, generator: object) -> object:
        """A generator of drafts that also says what arrived before it drafts, and counts what it drafts."""
        self.drafter = type(generator).__name__
        candidates_of = generator.get_candidates

        def counted(input_ids: object, *arguments: object, **named: object) -> tuple:
            self._arrived(input_ids)
            found = candidates_of(input_ids, *arguments, **named)
            self.steps += 1
            self.drafted += found[0].shape[1] - input_ids.shape[1]
            return found

        generator.get_candidates = counted
        return generator

    def _arrived(self, ids: object) -> None:
        if self._emit is not None and ids.shape[1] > self._length:
            new = ids[0, self._length :].tolist()
            self._length += len(new)
            self._emit(new)


def processing(read: object, found: dict, prompt_tokens: int, forced: list | None = None) -> object:
    """Processors that keep what `read` makes of the logits by the place of their token in the response; `forced` leaves
    one id to each place.

    A place is asked for more than once: of the draft, after a draft that turns out to be wrong, and at last by the step
    that takes its token, which so has the last word.
    """
    from transformers import LogitsProcessor, LogitsProcessorList

    class Reading(LogitsProcessor):
        def __call__(self, input_ids: object, scores: object) -> object:
            place = input_ids.shape[1] - prompt_tokens
            found[place] = read(scores)
            return scores if forced is None or place >= len(forced) else leaving(scores, forced[place])

    return LogitsProcessorList([Reading()])
