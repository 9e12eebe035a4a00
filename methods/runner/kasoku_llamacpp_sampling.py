"""The job's sampling as a chain of llama.cpp's samplers, in the order of transformers: penalty, temperature, k, p."""

from __future__ import annotations

from kasoku_asked_sampling import AskedSampling


class LlamaCppSampling(AskedSampling):
    """`chain(seed)` is a new chain for one response; `tokens` is the most a prompt and its response have.

    A repetition penalty divides the positive logits of every token of the prompt and the response once, and multiplies
    the negative ones, as transformers does: the chain must be told the prompt's ids by `accept`.
    """

    def __init__(self, job: dict, library: object, vocabulary: int, tokens: int) -> None:
        super().__init__(job)
        self.library, self.vocabulary, self.tokens = library, vocabulary, tokens

    def chain(self, seed: int) -> object:
        """A chain that has seen nothing; the caller frees it."""
        library = self.library
        parameters = library.llama_sampler_chain_default_params()
        chain = library.llama_sampler_chain_init(parameters)
        if self.penalty != 1.0:
            penalties = library.llama_sampler_init_penalties(self.vocabulary, self.tokens, self.penalty, 0.0, 0.0)
            library.llama_sampler_chain_add(chain, penalties)
        if self.temperature > 0:
            library.llama_sampler_chain_add(chain, library.llama_sampler_init_temp(self.temperature))
            if self.top_k:
                library.llama_sampler_chain_add(chain, library.llama_sampler_init_top_k(self.top_k))
            if self.top_p < 1:
                library.llama_sampler_chain_add(chain, library.llama_sampler_init_top_p(self.top_p, 1))
            library.llama_sampler_chain_add(chain, library.llama_sampler_init_dist(seed))
        else:
            library.llama_sampler_chain_add(chain, library.llama_sampler_init_greedy())
        return chain

    def told(self, chain: object, prompt_ids: list) -> None:
        """The prompt counts for a penalty."""
        if self.penalty != 1.0:
            for token in prompt_ids:
                self.library.llama_sampler_accept(chain, token)
