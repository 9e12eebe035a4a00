"""Forcing ids through vLLM's own decode step, in its workers and only once nothing is timed any more.

The sampler's choice is replaced where it is made, after whatever was compiled or captured, so that the next step is run
on the forced id. Where drafts are checked, those that are the forced ids are taken along, as they are when timed. What
the sampler is given are the model's logits: without penalties nothing has processed them.
"""

from __future__ import annotations

import tempfile

FORCED = "_kasoku_forced"
NOTHING = -1  # stands for no token among those that a check of drafts returns


class ForcedIds:
    """Mixed into a worker (kasoku_vllm_worker): `self.model_runner` is its own."""

    def kasoku_force_begins(self, ids: list) -> None:
        """The next ids that are chosen are these, in their order; nothing in a part of a pipeline that chooses none."""
        sampler = getattr(self.model_runner, "sampler", None)
        if sampler is None:
            return
        import torch

        choose, rows = sampler.sample, []

        def forced(logits: object, *arguments: object, **named: object) -> tuple:
            chosen, processed = choose(logits, *arguments, **named)
            if len(rows) < len(ids):
                chosen[0] = ids[len(rows)]
                rows.append(logits[0].to(dtype=torch.float32, copy=True))
            return chosen, processed

        def checked(metadata: object, drafted: object, logits: object, *arguments: object) -> object:
            if len(rows) == len(ids):
                return check(metadata, drafted, logits, *arguments)
            from vllm.v1.outputs import SamplerOutput

            left = ids[len(rows) :]
            right = 0
            for draft, own in zip(metadata.draft_token_ids.tolist(), left[:-1]):
                if draft != own:
                    break
                right += 1
            places = torch.cat([metadata.target_logits_indices, metadata.bonus_logits_indices])[: right + 1]
            rows.extend(row.to(dtype=torch.float32, copy=True) for row in logits[places])
            taken = torch.full((1, metadata.max_spec_len + 1), NOTHING, dtype=torch.int32, device=logits.device)
            taken[0, : right + 1] = torch.tensor(left[: right + 1], dtype=torch.int32)
            return SamplerOutput(sampled_token_ids=taken, logprobs_tensors=None)

        sampler.sample = forced
        rejection = getattr(self.model_runner, "rejection_sampler", None)
        check = None if rejection is None else rejection.forward
        if rejection is not None:
            rejection.forward = checked
        setattr(self, FORCED, (list(ids), rows, check))

    def kasoku_force_ends(self) -> dict:
        """{nll, top1} of the ids that were forced, and `file`, a numpy file of their log probabilities that is the
        caller's to remove. The sampler chooses by itself again.
        """
        if not hasattr(self, FORCED):
            return {"nll": [], "top1": [], "file": None}
        import numpy
        import torch
        from kasoku_scores import scores_of_logits

        del self.model_runner.sampler.sample
        ids, rows, check = getattr(self, FORCED)
        if check is not None:
            self.model_runner.rejection_sampler.forward = check
        delattr(self, FORCED)
        if len(rows) < len(ids):
            return {"nll": [], "top1": [], "file": None}
        scores = scores_of_logits(torch.stack(rows), ids)
        with tempfile.NamedTemporaryFile(suffix=".npy", delete=False) as file:
            numpy.save(file, scores.log_probs)
        return {"nll": scores.nll, "top1": scores.top1, "file": file.name}
