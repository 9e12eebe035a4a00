"""The job's sampling in numpy, for engines whose library hands out logits and chooses no token as transformers does.

The order and the meaning are those of transformers: the repetition penalty divides the positive logits of every token
of the prompt and the response once and multiplies the negative ones, then temperature, then the k likeliest (with those
as likely as the last of them), then the likeliest until they have the probability p.
"""

from __future__ import annotations

from kasoku_asked_sampling import AskedSampling


class Sampling(AskedSampling):
    """What one job asks for. `begin` a response, then `choose` its ids one after another."""

    def __init__(self, job: dict) -> None:
        import numpy

        super().__init__(job)
        self.numpy = numpy

    @property
    def is_plain(self) -> bool:
        """Whether the id chosen is that of the highest logit, and nothing else."""
        return self.temperature == 0 and self.penalty == 1

    def begin(self, seed: int, prompt_ids: list) -> None:
        """A response to `prompt_ids`, drawn by a generator of its own."""
        self._random = self.numpy.random.default_rng(seed)
        self._seen = self.numpy.unique(self.numpy.asarray(prompt_ids, dtype=self.numpy.int64))

    def choose(self, logits: object) -> int:
        """The next id, by the logits in its place (vocabulary), which are left as they are."""
        if self.is_plain:
            return int(logits.argmax())
        numpy = self.numpy
        scores = logits.astype(numpy.float64)
        if self.penalty != 1:
            seen = scores[self._seen]
            scores[self._seen] = numpy.where(seen < 0, seen * self.penalty, seen / self.penalty)
        token = self._drawn(scores) if self.temperature > 0 else int(scores.argmax())
        if self.penalty != 1:
            self._seen = numpy.union1d(self._seen, [token])
        return token

    def _drawn(self, scores: object) -> int:
        numpy = self.numpy
        scores /= self.temperature
        ids = numpy.arange(len(scores))
        if 0 < self.top_k < len(scores):
            ids = ids[scores >= numpy.partition(scores, -self.top_k)[-self.top_k]]
        probabilities = numpy.exp(scores[ids] - scores[ids].max())
        probabilities /= probabilities.sum()
        if self.top_p < 1:
            order = numpy.argsort(-probabilities, kind="stable")
            ahead = numpy.cumsum(probabilities[order]) - probabilities[order]
            kept = order[ahead < self.top_p]
            ids, probabilities = ids[kept], probabilities[kept]
        up_to = numpy.cumsum(probabilities)
        place = numpy.searchsorted(up_to, self._random.random() * up_to[-1], side="right")
        return int(ids[min(place, len(ids) - 1)])


def margin_of(logits: object) -> float:
    """How far the highest logit is ahead of the next."""
    import numpy

    second, best = numpy.partition(logits, -2)[-2:]
    return float(best - second)
