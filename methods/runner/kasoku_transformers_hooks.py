"""What is hung into transformers' `generate`: ids as they come, an early end, the logits, what is applied to them."""

from __future__ import annotations

import functools

from kasoku_engine import UnsupportedError

PROCESSOR_SETTINGS = ("temperature", "top_k", "top_p", "min_p", "penalty")


class Arrivals:
    """Hands each id of a `generate` to `emit` when it has reached the host, without a wait of its own.

    transformers gives a streamer an id after waiting for the device, in the middle of a step: what the host does from
    there to the step's end then finds the device idle (docs/observer-effect.md). Here a stopping criterion only starts
    the copy. The loop itself waits at the end of each step, and `model` is asked for the next inputs right after that:
    there the id is taken.
    """

    def __init__(self, model: object) -> None:
        import torch

        on_cuda = model.device.type == "cuda"
        self._newest = torch.zeros(1, dtype=torch.long, pin_memory=on_cuda)
        self._copied = torch.cuda.Event() if on_cuda else None
        self._emit: object = None
        self._awaited, self._taken = False, 0
        inputs_of = model.prepare_inputs_for_generation

        @functools.wraps(inputs_of)  # transformers reads its signature
        def inputs_after_taking(*arguments: object, **named: object) -> object:
            if self._awaited:
                self._take()
            return inputs_of(*arguments, **named)

        model.prepare_inputs_for_generation = inputs_after_taking

    def criteria(self, emit: object) -> object:
        """For the next `generate`, whose ids go to `emit`: the stopping criteria to give it."""
        from transformers import StoppingCriteria, StoppingCriteriaList

        arrivals = self

        class Copying(StoppingCriteria):
            def __call__(self, input_ids: object, scores: object, **more: object) -> bool:  # noqa: ARG002
                arrivals._copy(input_ids)
                return False  # and no tensor: before 4.39 that would be waited for

        self._emit, self._awaited, self._taken = emit, False, 0
        return StoppingCriteriaList([Copying()])

    def finish(self, ids: object) -> None:
        """`generate` has come back, with these new ids: hand out the last. Raises UnsupportedError."""
        if self._awaited:
            self._take()
        rest = ids[self._taken :].tolist()  # before 4.39 other criteria are not asked once one ends the response
        if len(rest) > 1:
            raise UnsupportedError("This model's `generate` does not tell of every token when it has chosen it.")
        if rest:
            self._emit(rest)

    def _copy(self, input_ids: object) -> None:
        if self._awaited:  # its time was missed, and a time of now would be wrong by a step
            raise UnsupportedError("This model's `generate` does not ask the model for its inputs at every step.")
        self._newest.copy_(input_ids[0, -1:], non_blocking=True)
        if self._copied is not None:
            self._copied.record()
        self._awaited = True

    def _take(self) -> None:
        if self._copied is not None:
            self._copied.synchronize()  # nothing to wait for, but where a loop does not wait itself
        self._awaited = False
        self._taken += 1
        self._emit(self._newest.tolist())


def stopping_at(length: int) -> object:
    """Criteria that end a sequence at `length` ids, prompt included."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    class AtLength(StoppingCriteria):
        def __call__(self, input_ids: object, scores: object, **more: object) -> object:  # noqa: ARG002
            return torch.full((input_ids.shape[0],), input_ids.shape[1] >= length, device=input_ids.device)

    return StoppingCriteriaList([AtLength()])


def noting_margins(margins: list) -> object:
    """Processors that leave the logits as they are, and put the distance of the two best into `margins`."""
    from transformers import LogitsProcessor, LogitsProcessorList

    class NotingMargins(LogitsProcessor):
        def __call__(self, input_ids: object, scores: object) -> object:  # noqa: ARG002
            best = scores[0].float().topk(2).values
            margins.append(float(best[0] - best[1]))
            return scores

    return LogitsProcessorList([NotingMargins()])


class observed_processors:  # noqa: N801
    """While entered: notes what transformers applies to the logits, as [{name, setting: value}], each kind once."""

    def __enter__(self) -> list:
        from transformers import LogitsProcessorList

        self.processor_list = LogitsProcessorList
        self.original = LogitsProcessorList.__call__
        seen = []
        original = self.original

        def noted(processors: object, *arguments: object, **more: object) -> object:
            for processor in processors:
                entry = {"name": type(processor).__name__}
                for setting in PROCESSOR_SETTINGS:
                    value = getattr(processor, setting, None)
                    if isinstance(value, (int, float)):
                        entry[setting] = value
                if entry not in seen:
                    seen.append(entry)
            return original(processors, *arguments, **more)

        LogitsProcessorList.__call__ = noted
        return seen

    def __exit__(self, *error: object) -> None:
        self.processor_list.__call__ = self.original
