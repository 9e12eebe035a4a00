"""Forcing ids through vLLM's own decode step, in its workers and only once nothing is timed any more.

The sampler's choice is replaced where it is made, after whatever was compiled or captured, so that the next step is run
on the forced id. What the sampler is given are the model's logits: without penalties nothing has processed them.
"""

from __future__ import annotations

import tempfile

FORCED = "_kasoku_forced"


class ForcedIds:
    """Mixed into a worker (kasoku_vllm_worker): `self.model_runner` is its own."""

    def kasoku_force_begins(self, ids: list) -> None:
        """The next ids that are chosen are these, in their order."""
        import torch

        sampler = self.model_runner.sampler
        choose, rows = sampler.sample, []

        def forced(logits: object, *arguments: object, **named: object) -> tuple:
            chosen, processed = choose(logits, *arguments, **named)
            if len(rows) < len(ids):
                chosen[0] = ids[len(rows)]
                rows.append(logits[0].to(dtype=torch.float32, copy=True))
            return chosen, processed

        sampler.sample = forced
        setattr(self, FORCED, (list(ids), rows))

    def kasoku_force_ends(self) -> dict:
        """{nll, top1} of the ids that were forced, and `file`, a numpy file of their log probabilities that is the
        caller's to remove. The sampler chooses by itself again.
        """
        import numpy
        import torch
        from kasoku_scores import scores_of_logits

        del self.model_runner.sampler.sample
        ids, rows = getattr(self, FORCED)
        delattr(self, FORCED)
        if len(rows) < len(ids):
            return {"nll": [], "top1": [], "file": None}
        scores = scores_of_logits(torch.stack(rows), ids)
        with tempfile.NamedTemporaryFile(suffix=".npy", delete=False) as file:
            numpy.save(file, scores.log_probs)
        return {"nll": scores.nll, "top1": scores.top1, "file": file.name}
