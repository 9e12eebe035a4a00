"""The job's sampling in the terms of SGLang: parameters, what they resolve to, where they depart from the session's."""

from __future__ import annotations

from kasoku_asked_sampling import AskedSampling
from kasoku_engine import UnsupportedError, first_seed

HIGHEST_PENALTY = 2.0


class SglangSampling(AskedSampling):
    """What one job asks for. UnsupportedError where SGLang has no such thing."""

    def __init__(self, job: dict) -> None:
        super().__init__(job)
        self.seed = first_seed(job)
        if self.penalty > HIGHEST_PENALTY:
            raise UnsupportedError(
                "SGLang takes a repetition penalty of at most %g, not %g." % (HIGHEST_PENALTY, self.penalty)
            )

    def parameters(self, max_new_tokens: int, stop_token_ids: object) -> dict:
        """SGLang's sampling_params for one request."""
        parameters = {"temperature": self.temperature, "repetition_penalty": self.penalty}
        if self.temperature > 0:
            parameters.update(top_p=self.top_p, top_k=self.top_k or -1)
        return {**parameters, **ending(max_new_tokens, stop_token_ids)}

    def departures(self) -> list:
        """Where the sampling differs from the session's settings, a phrase each."""
        found = ["the repetition penalty does not count the prompt"] if self.penalty != 1 else []
        if self.temperature > 0 and self.top_k and self.top_p < 1:
            found.append("top_p is counted over all tokens instead of the top_k likeliest")
        return found


def ending(max_new_tokens: int, stop_token_ids: object) -> dict:
    """The parameters that end a response: at these ids alone, or at the length. `ignore_eos` ignores stop ids, too."""
    stop = list(stop_token_ids)
    return {"max_new_tokens": max_new_tokens, "ignore_eos": not stop, **({"stop_token_ids": stop} if stop else {})}


def greedy_parameters(max_new_tokens: int, stop_token_ids: object = ()) -> dict:
    """SGLang's sampling_params for the likeliest id each time, without penalties."""
    return {"temperature": 0.0, **ending(max_new_tokens, stop_token_ids)}


def finish_of(reason: dict | None, asked: int, stop_token_ids: object) -> str:
    """`length` or `eos` from SGLang's finish_reason; RuntimeError where a response ended in any other way."""
    kind = (reason or {}).get("type")
    if kind == "length":
        if reason["length"] < asked:
            raise RuntimeError("SGLang cut the response to %d of %d new tokens." % (reason["length"], asked))
        return "length"
    if kind == "stop":
        if reason["matched"] in stop_token_ids:
            return "eos"
        raise RuntimeError("SGLang ended the response by itself: %s." % reason["matched"])
    raise RuntimeError("SGLang gave up the request: %s." % str((reason or {}).get("message", "no reason")).rstrip("."))
