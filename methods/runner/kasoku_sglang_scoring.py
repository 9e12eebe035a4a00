"""How SGLang scores ids that it is given: a prompt by its own log-probabilities, a response by forcing it."""

from __future__ import annotations

import json

from kasoku_engine import Scores, UnsupportedError
from kasoku_sglang_sampling import greedy_parameters


class SglangScoring:
    """Mixed into the engine: `self._output` makes a response at once, `self._ask` asks its schedulers."""

    def score_prefill(self, ids: list, scored: int) -> Scores:
        output = self._output(
            ids, greedy_parameters(1), logprob_start_len=max(0, len(ids) - scored - 1), top_logprobs_num=1
        )
        return prompt_scores(output["meta_info"], scored)

    def score_decode(self, ids: list, scored: int) -> Scores:
        import numpy

        forced = list(ids[-scored:])
        self._ask("kasoku_force_begins", ids=json.dumps(forced))
        try:
            taken = self._output(ids[:-scored], greedy_parameters(scored))["output_ids"]
        finally:
            said = self._ask("kasoku_force_ends")[0]
        if list(taken) != forced or said["file"] is None:
            raise UnsupportedError("SGLang %s does not take the ids that are forced." % self.sglang.__version__)
        return Scores(said["nll"], said["top1"], numpy.load(said["file"], allow_pickle=False))


def prompt_scores(said: dict, scored: int) -> Scores:
    """The scores of a prompt's last `scored` ids from what SGLang says of a response. UnsupportedError where it says
    less.
    """
    own = (said.get("input_token_logprobs") or [])[-scored:]
    best = (said.get("input_top_logprobs") or [])[-scored:]
    if len(own) < scored or len(best) < scored or any(row[0] is None for row in own) or not all(best):
        raise UnsupportedError("SGLang hands out no log-probabilities of a prompt.")
    return Scores([-row[0] for row in own], [row[0][1] for row in best])


def margin_of(best: list) -> float | None:
    """The best logit minus the second best, from [(log probability, id), …]: softmax subtracts the same from both."""
    ordered = sorted((row[0] for row in best), reverse=True)
    return ordered[0] - ordered[1] if len(ordered) > 1 else None
