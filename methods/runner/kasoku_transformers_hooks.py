"""Hooks into transformers' `generate`: IDs as they arrive or are forced, an early end, the logits, the processors."""

from __future__ import annotations

import functools
import inspect

from kasoku_engine import UnsupportedError

PROCESSOR_SETTINGS = ("temperature", "top_k", "top_p", "min_p", "penalty")


class Arrivals:
    """Marks each token of a `generate` at the end of its step, without extra device work and without waiting.

    transformers gives a streamer an ID after waiting for the device in the middle of a step, and another stopping
    criterion means another kernel in each: both slow the step down (docs/observer-effect.md). The loop itself waits at
    the end of each step, to see whether to stop, and then asks `model` for the next inputs, with the ids so far: there
    the token is marked. The ids stay on the device until a flush asks for them.
    """

    def __init__(self, model: object) -> None:
        self._device = model.device
        self._emit: object = None
        self._stream: object = None
        self._ids: object = None  # prompt and tokens as of the last mark
        self._length = self._fetched = 0
        self._many = False
        inputs_of = model.prepare_inputs_for_generation

        @functools.wraps(inputs_of)  # transformers reads its signature
        def inputs_after_marking(input_ids: object, *arguments: object, **named: object) -> object:
            if self._emit is not None and input_ids.shape[1] != self._length:
                self._mark(input_ids)
            return inputs_of(input_ids, *arguments, **named)

        model.prepare_inputs_for_generation = inputs_after_marking

    def begin(self, emit: object, prompt_tokens: int) -> None:
        """The tokens of the next `generate` go to `emit`."""
        if self._device.type == "cuda":
            import torch

            self._stream = torch.cuda.current_stream(self._device)
        self._emit, self._length, self._fetched = emit, prompt_tokens, prompt_tokens
        self._many = isinstance(emit, BatchArrivals)

    def finish(self, ids: object) -> None:
        """`generate` returned these IDs, the prompt's included: emit the last. Raises UnsupportedError.

        Those of a batch have a row for each of its requests.
        """
        rest = ids[..., self._length :].tolist()
        if ids.shape[-1] - self._length > 1:
            raise UnsupportedError("This model's `generate` does not ask the model for its inputs at every step.")
        if ids.shape[-1] > self._length:
            self._emit(rest)
        self._emit = None  # what is generated from now on, for evidence, is nobody's token

    def forget(self) -> None:
        """A `generate` that was broken off has no tokens any more."""
        self._emit = self._ids = None

    def _mark(self, input_ids: object) -> None:
        if input_ids.shape[1] != self._length + 1:
            raise UnsupportedError("This model's `generate` makes more than one token in a step.")
        if self._stream is not None and not self._stream.query():
            self._stream.synchronize()  # a loop that does not wait itself: without it the time would be too early
        self._ids, self._length = input_ids, self._length + 1
        self._emit.mark(self._fetch)

    def _fetch(self, count: int) -> list:
        first = self._fetched
        self._fetched += count
        rows = self._ids[:, first : self._fetched].tolist()
        return rows if self._many else rows[0]


class BatchArrivals:
    """Takes the tokens of a batch for its requests: a row that has come to a stop id has no more."""

    def __init__(self, load: object, requests: list) -> None:
        self._load, self._requests = load, requests
        self._stopped = [False] * len(requests)

    def __call__(self, rows: list) -> None:
        self._load.flush()  # a row may have stopped among the ids that were only marked
        last = self._cut(rows)
        self._load.mark(self._requests, lambda count: last)  # noqa: ARG005

    def mark(self, fetch: object) -> None:
        self._load.mark(self._requests, lambda count: self._cut(fetch(count)))

    def _cut(self, rows: list) -> list:
        return [self._kept(place, ids) for place, ids in enumerate(rows)]

    def _kept(self, place: int, ids: list) -> list:
        if self._stopped[place]:
            return []
        stops = self._requests[place].stop_token_ids
        end = next((index for index, each in enumerate(ids, start=1) if each in stops), None) if stops else None
        self._stopped[place] = end is not None
        return ids[:end]


def stopping_at(length: int) -> object:
    """Criteria that end a sequence at `length` ids, prompt included."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    class AtLength(StoppingCriteria):
        def __call__(self, input_ids: object, scores: object, **more: object) -> object:  # noqa: ARG002
            return torch.full((input_ids.shape[0],), input_ids.shape[1] >= length, device=input_ids.device)

    return StoppingCriteriaList([AtLength()])


def noting_margins(margins: list) -> object:
    """Processors that leave the logits unchanged, and record the margin between the two best in `margins`."""
    from transformers import LogitsProcessor, LogitsProcessorList

    class NotingMargins(LogitsProcessor):
        def __call__(self, input_ids: object, scores: object) -> object:  # noqa: ARG002
            margins.append(margin_of(scores))
            return scores

    return LogitsProcessorList([NotingMargins()])


def margin_of(scores: object) -> float:
    """The best logit minus the second best."""
    best = scores[0].float().topk(2).values
    return float(best[0] - best[1])


def row_of(scores: object) -> object:
    """A copy of the logits in float32: a graph may use their place again."""
    import torch

    return scores[0].to(dtype=torch.float32, copy=True)


def leaving(scores: object, token_id: int) -> object:
    """Scores that leave one id to choose."""
    import torch

    left = torch.full_like(scores, float("-inf"))
    left[0, token_id] = 0.0
    return left


def logits_before(model: object, ids: list, scored: int) -> object:
    """The logits in whose places the last `scored` of `ids` follow, [scored, vocabulary], all positions at once."""
    import torch

    taken = torch.tensor([ids], dtype=torch.long, device=model.device)
    accepted = inspect.signature(model.forward).parameters
    # only what is scored goes through the head: of a long prompt the whole would take gigabytes
    name = next((each for each in ("logits_to_keep", "num_logits_to_keep") if each in accepted), None)
    with torch.no_grad():
        said = model(
            taken, attention_mask=torch.ones_like(taken), use_cache=False, **({name: scored + 1} if name else {})
        )
    return said.logits[0, -scored - 1 : -1]


def forcing(ids: list, rows: list) -> object:
    """Processors that leave one id to each step, those of `ids` in their order; the logits go to `rows` before."""
    from transformers import LogitsProcessor, LogitsProcessorList

    class Forcing(LogitsProcessor):
        def __call__(self, input_ids: object, scores: object) -> object:  # noqa: ARG002
            rows.append(row_of(scores))
            return leaving(scores, ids[len(rows) - 1])

    return LogitsProcessorList([Forcing()])


def described(processor: object) -> dict:
    """A processor of logits by its name and its settings."""
    settings = {setting: getattr(processor, setting, None) for setting in PROCESSOR_SETTINGS}
    known = {setting: value for setting, value in settings.items() if isinstance(value, (int, float))}
    return {"name": type(processor).__name__, **known}


class observed_processors:  # noqa: N801
    """While entered: records what transformers applies to the logits, as [{name, setting: value}], each kind once."""

    def __enter__(self) -> list:
        from transformers import LogitsProcessorList

        self.processor_list = LogitsProcessorList
        self.original = LogitsProcessorList.__call__
        seen = []
        original = self.original

        def noted(processors: object, *arguments: object, **more: object) -> object:
            for processor in processors:
                entry = described(processor)
                if entry not in seen:
                    seen.append(entry)
            return original(processors, *arguments, **more)

        LogitsProcessorList.__call__ = noted
        return seen

    def __exit__(self, *error: object) -> None:
        self.processor_list.__call__ = self.original
