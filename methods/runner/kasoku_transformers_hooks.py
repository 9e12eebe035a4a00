"""What is hung into transformers' `generate`: ids as they come, an early end, the logits, what is applied to them."""

from __future__ import annotations

PROCESSOR_SETTINGS = ("temperature", "top_k", "top_p", "min_p", "penalty")


def streamer_for(emit: object) -> object:
    """A streamer that hands on each token's id as it comes; the first `put` is the prompt."""
    from transformers.generation.streamers import BaseStreamer

    class TokenStreamer(BaseStreamer):
        prompt_is_next = True

        def put(self, value: object) -> None:
            if self.prompt_is_next:
                self.prompt_is_next = False
                return
            emit(value.tolist())

        def end(self) -> None:
            pass

    return TokenStreamer()


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
