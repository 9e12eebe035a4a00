"""The job's sampling as every engine is asked for it, each on its own terms."""

from __future__ import annotations


class AskedSampling:
    """What one job asks for, gaps filled: `temperature` 0 is greedy, `top_k` 0, `top_p` 1 and `penalty` 1 are off."""

    def __init__(self, job: dict) -> None:
        asked = job["sampling"]
        self.temperature = float(asked.get("temperature") or 0.0)
        self.top_p = float(asked.get("top_p") or 1.0)
        self.top_k = int(asked.get("top_k") or 0)
        self.penalty = float(asked.get("repetition_penalty") or 1.0)
        self.max_new_tokens = asked["max_new_tokens"]
        self.stop_token_ids = list(asked.get("stop_token_ids") or ())

    def as_resolved(self) -> dict:
        """What a response is sampled with."""
        sampled = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        return {
            "choice": "sampled" if self.temperature > 0 else "greedy",
            **(sampled if self.temperature > 0 else {}),
            "repetition_penalty": self.penalty,
            "max_new_tokens": self.max_new_tokens,
            "stop_token_ids": self.stop_token_ids,
        }
