"""Responses by a decode step that stays on the device: the host queues steps ahead, and reads tokens off the ring."""

from __future__ import annotations

from kasoku_resident_prompt import Prompts
from kasoku_resident_step import ASKED, GREEDY, Replays, Step

AHEAD = 4  # steps queued beyond the last token that has come: so many run in vain after a stop token
LOOKS = 20_000  # at the ring without a token, before the device is asked whether it still works


class Generating:
    """Generates with `step`; prompts are read by `prompts`, of transformers, but for their last id: the first step
    reads that one, so that all tokens come out of steps.
    """

    def __init__(self, prompts: Prompts, step: Step, with_graph: bool) -> None:
        self.prompts, self.step = prompts, step
        self.replays = {kind: Replays(step, kind, with_graph) for kind in step.kinds()}
        self.asked = self.replays.get(ASKED) or self.replays[GREEDY]

    def stream(self, request: object, emit: object) -> str:
        """One response, its ids to `emit` as they arrive; `length` or `eos`."""
        limit, stops = request.max_new_tokens, self.step.sampling.stop_token_ids
        self.step.begin(self.prompts.read(request.prompt_ids[:-1]), request.prompt_ids, limit, request.seed)
        queued = came = looks = 0
        while came < limit:
            while queued < min(limit, came + AHEAD):
                self.asked.next()
                queued += 1
            ids = self.step.ring.after(came)
            if ids:
                emit(ids)
                came += len(ids)
                looks = 0
                if ids[-1] in stops:  # nothing comes after one
                    return "eos"
                continue
            looks += 1
            if looks % LOOKS == 0:
                self._check(came)
        return "length"

    def whole(self, request: object) -> list:
        """The ids of one response, read when the last is there."""
        ids: list = []
        self.stream(request, ids.extend)
        return ids

    def greedy(self, prompt_ids: list, limit: int) -> dict:
        """`ids` and `margins` of a greedy response without penalties (see Engine.greedy)."""
        best = [scores.topk(2).values for scores in self._steps(prompt_ids, limit, None)]
        ids = self.step.ring.after(0)
        return {"ids": ids, "margins": [float(first - second) for first, second in best[: len(ids)]]}

    def forced(self, prompt_ids: list, ids: list) -> object:
        """The logits (ids, vocabulary) from which each of `ids` is taken, one step at a time, after `prompt_ids`."""
        import torch

        return torch.stack([scores.clone() for scores in self._steps(prompt_ids, len(ids), ids)])

    def _steps(self, prompt_ids: list, limit: int, forced: list | None) -> object:
        """After each of `limit` steps, the logits that it chose from."""
        import torch

        self.step.begin(self.prompts.read(prompt_ids[:-1]), prompt_ids, limit, 0, forced)
        for _ in range(limit):
            self.replays[GREEDY].next()
            yield self.step.scores
        if self.step.on_gpu:
            torch.cuda.synchronize()

    def _check(self, came: int) -> None:
        """Raise what the device has to say for itself, if it has stopped without a token."""
        import torch

        idle = not self.step.on_gpu or torch.cuda.current_stream().query()
        if idle and not self.step.ring.after(came):
            raise RuntimeError("The device is done with its steps and has written no further token.")
