"""The job's sampling in the terms of vLLM: parameters, what they resolve to, where that departs from the session's."""

from __future__ import annotations

from kasoku_engine import UnsupportedError, first_seed

PARAMETERS = ("max_tokens", "repetition_penalty", "temperature", "top_k", "top_p")


class VllmSampling:
    """`left_out` names PARAMETERS that are not handed on, so that vLLM's own defaults hold. UnsupportedError where one
    is none of them.
    """

    def __init__(self, job: dict, left_out: list) -> None:
        for name in left_out:
            if name not in PARAMETERS:
                raise UnsupportedError(
                    "The vllm engine cannot leave out %r; it can leave out %s." % (name, ", ".join(PARAMETERS))
                )
        self.asked, self.left_out, self.seed = job["sampling"], left_out, first_seed(job)

    def parameters(self, max_new_tokens: int, stop_token_ids: object, **more: object) -> object:
        """vLLM's SamplingParams for one request."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        temperature = float(self.asked.get("temperature") or 0.0)
        parameters = {
            "max_tokens": max_new_tokens,
            "temperature": temperature,
            "repetition_penalty": float(self.asked.get("repetition_penalty") or 1.0),
        }
        if temperature > 0:
            parameters.update(top_p=float(self.asked.get("top_p") or 1.0), top_k=int(self.asked.get("top_k") or 0))
        left_out = [
            name for name in self.left_out if name != "max_tokens" or SamplingParams().max_tokens < max_new_tokens
        ]
        return SamplingParams(
            output_kind=RequestOutputKind.DELTA,
            detokenize=False,
            ignore_eos=True,  # a response ends at the job's stop ids, the same for every engine, and at no others
            stop_token_ids=list(stop_token_ids) or None,
            **{name: value for name, value in parameters.items() if name not in left_out},
            **more,
        )

    def as_resolved(self) -> dict:
        """What a request is sampled with, vLLM's own defaults among it."""
        stop_token_ids = list(self.asked.get("stop_token_ids") or ())
        parameters = self.parameters(self.asked["max_new_tokens"], stop_token_ids)
        names = ("temperature", "top_p", "top_k", "repetition_penalty", "ignore_eos")
        return {
            "choice": "greedy" if parameters.temperature == 0 else "sampled",
            **{name: getattr(parameters, name) for name in names},
            "max_new_tokens": parameters.max_tokens,
            "stop_token_ids": stop_token_ids,
            "left_out": self.left_out,
        }

    def departures(self) -> list:
        """Where the sampling differs from the session's settings, a phrase each."""
        done, found = self.as_resolved(), []
        if done["max_new_tokens"] != self.asked["max_new_tokens"]:
            found.append("at most %d new tokens instead of %d" % (done["max_new_tokens"], self.asked["max_new_tokens"]))
        penalty = float(self.asked.get("repetition_penalty") or 1.0)
        if done["repetition_penalty"] != penalty:
            found.append("repetition penalty %g instead of %g" % (done["repetition_penalty"], penalty))
        defaults = [name for name in ("temperature", "top_p", "top_k") if name in self.left_out]
        return [*found, *("%s %g, which is vLLM's default" % (name, done[name]) for name in defaults)]
