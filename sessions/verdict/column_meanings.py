"""What each result column means, in a few words for lists of them; docs/definitions.md has the whole definitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MEANINGS: Final[Mapping[str, str]] = {
    "session": "the session that the row is of",
    "method": "the method that the row is of",
    "reference": "the method that this one is compared with",
    "requests": "timed requests that count",
    "blocks": "blocks that count, each a fresh process",
    "tok_s_mean": "mean tokens/s of whole requests",
    "tok_s_median": "median tokens/s of whole requests",
    "tok_s_sd": "standard deviation of the requests' tokens/s",
    "ratio": "how many times as fast as its reference",
    "verdict": "what the ratio and its interval support",
    "ttft_s_median": "median time to the first token",
    "itl_s_p50": "median time between two tokens",
    "itl_s_p99": "99th percentile of the time between two tokens",
    "peak_vram_bytes": "most GPU memory in use, of all blocks",
    "energy_j_per_token": "the GPUs' energy for a token of the timed part",
    "mbu": "share of the memory bandwidth that decoding used",
    "first_difference": "first token at which the greedy text leaves the reference's",
    "in_effect": "whether the method did what it claims to do",
    "flags": "what makes a figure less reliable",
    "decode_tok_s_median": "median tokens/s after the first token",
    "load_s_median": "median time to load the model",
    "warmup_s_median": "median time of the warm-up, compiling included",
    "peak_rss_bytes": "most memory of the host that a process held",
    "dram_active_percent": "how busy the GPU's memory was, by its own counters",
    "idle_w": "power of the GPUs before the first block",
    "equal_tokens_share": "share of the greedy tokens equal to the reference's",
    "difference": "where the greedy texts part, in a sentence",
    "noise_floor": "what the reference shows against itself on this device",
    "status": "how the blocks ended",
    "in_effect_reason": "what was seen of the method at work",
    "problem": "what is wrong with the row",
    "missing": "why what is not known is not",
    "timed_share": "share of a block's time that was measured",
    "more_blocks": "blocks more that would probably settle the verdict",
    "dnll": "what the method loses, reading the text at once",
    "perplexity_ratio": "its perplexity over the reference's",
    "top1_agreement": "share of tokens with the reference's likeliest one",
    "fidelity": "what the loss and its floor support",
    "dnll_decode": "what the method loses, a token at a time",
    "perplexity_ratio_decode": "its perplexity over the reference's, in decoding",
    "top1_agreement_decode": "share of tokens with the reference's likeliest, in decoding",
    "fidelity_decode": "what the loss and its floor support, in decoding",
    "fidelity_floor": "the loss below which methods are not told apart",
    "fidelity_floor_decode": "the same in decoding",
    "accepted_per_step": "drafted tokens that a step accepted, on average",
    "point": "the point of the load",
    "primary": "whether it is the point that is judged",
    "batch": "sequences that begin together",
    "concurrency": "requests always in flight",
    "rate": "requests that arrive a second",
    "burstiness": "how evenly they arrive: 1 is a Poisson process",
    "isl": "tokens of the prompt",
    "osl": "new tokens at most",
    "depth": "tokens in the cache before the prompt",
    "tok_s_total": "tokens/s of all requests in flight",
    "tok_s_total_whole": "the same with ramp and tail",
    "tok_s_gpu": "tokens/s of all requests for each GPU",
    "tok_s_user": "tokens/s that one user sees",
    "rps": "requests answered a second",
    "goodput_rps": "requests a second that keep every bound",
    "goodput_of": "what kind of load the goodput is of",
    "ttft_s_p90": "90th percentile of the time to the first token",
    "ttft_s_p99": "99th percentile of the time to the first token",
    "tpot_s_p50": "median time for each token after the first",
    "tpot_s_p90": "90th percentile of it",
    "tpot_s_p99": "99th percentile of it",
    "itl_s_p90": "90th percentile of the time between two tokens",
    "queue_s_p50": "median time that a request waited to be sent",
    "queue_s_p90": "90th percentile of it",
    "queue_s_p99": "99th percentile of it",
    "in_flight": "requests in flight on average",
    "decoding": "sequences that a decoding step had, on average",
    "steady_s": "how long the steady part was",
    "wall_s": "how long the whole point was",
    "equal_alone_share": "share of the responses equal to those given alone",
}
ENDS: Final = {"low": "lower", "high": "upper"}
OF_MEDIAN: Final = {"ttft_s_p50": "ttft_s_median"}  # ends whose figure has another name


def meaning_of(key: str) -> str:
    """The meaning of a result column; of an end of an interval, which interval it is of. KeyError for another name."""
    for end, word in ENDS.items():
        for suffix in (f"_{end}", f"_{end}_decode"):
            if key not in MEANINGS and key.endswith(suffix):
                figure = key.replace(f"_{end}", "")
                figure = {"tok_s": "tok_s_mean"}.get(figure, OF_MEDIAN.get(figure, figure))
                return f"{word} end of the 95 % interval of {figure}"
    return MEANINGS[key]
