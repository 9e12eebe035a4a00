"""How vLLM scores ids that it is given: a prompt by its own prompt log-probabilities, a response by forcing it."""

from __future__ import annotations

from pathlib import Path

from kasoku_engine import Scores, UnsupportedError


class VllmScoring:
    """Mixed into the engine: `self.engine` is its AsyncLLM, `self._completed` waits for it."""

    def score_prefill(self, ids: list, scored: int) -> Scores:
        parameters = greedy_parameters(1, prompt_logprobs=1, **self.reading())
        said = self._completed(self._outputs(ids, parameters))[0].prompt_logprobs
        if not said or len(said) != len(ids):
            raise UnsupportedError("vLLM %s hands out no log-probabilities of a prompt." % self.vllm.__version__)
        rows = list(zip(ids, said))[-scored:]
        nll = [-row[own].logprob for own, row in rows]
        return Scores(nll, [max(row, key=lambda each: row[each].logprob) for _, row in rows])

    def score_decode(self, ids: list, scored: int) -> Scores:
        import numpy

        forced = list(ids[-scored:])
        self._completed(self.engine.collective_rpc("kasoku_force_begins", args=(forced,)))
        outputs = self._completed(self._outputs(ids[:-scored], greedy_parameters(scored, **self.reading())))
        said = self._completed(self.engine.collective_rpc("kasoku_force_ends"))
        files = [Path(worker["file"]) for worker in said if worker["file"]]
        try:
            taken = [each for output in outputs for each in output.outputs[0].token_ids]
            scored_by = next((worker for worker in said if worker["nll"]), None)  # only a pipeline's last has logits
            if taken != forced or scored_by is None:
                raise UnsupportedError("vLLM %s does not take the ids that are forced." % self.vllm.__version__)
            return Scores(scored_by["nll"], scored_by["top1"], numpy.load(scored_by["file"], allow_pickle=False))
        finally:
            for file in files:
                file.unlink()

    async def _outputs(self, ids: list, parameters: object) -> list:
        self.requests_made += 1
        request_id = "kasoku-%d" % self.requests_made
        made = self.engine.generate({"prompt_token_ids": list(ids)}, parameters, request_id=request_id)
        return [output async for output in made]


def greedy_parameters(max_tokens: int, **more: object) -> object:
    """vLLM's SamplingParams for so many tokens, the likeliest each, whatever they are."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        output_kind=RequestOutputKind.DELTA,
        detokenize=False,
        ignore_eos=True,
        temperature=0.0,
        max_tokens=max_tokens,
        **more,
    )
