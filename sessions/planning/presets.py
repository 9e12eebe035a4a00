"""The presets of `kasoku run`: the defaults of a measurement."""

from __future__ import annotations

from typing import Final

from sessions.disk.options import RunOptions
from sessions.disk.sampling import Sampling

ARTICLE_PROMPT: Final = "今日は良い天気ですね。このあとの予定は"

PRESETS: Final = {
    options.preset: options  # the methods are those that name the preset in the catalogue
    for options in (
        RunOptions(  # a first look on any machine
            preset="quick",
            requests=6,
            warmup=1,
            blocks=3,
            until=0.05,
            at_most=360.0,
            sampling=Sampling(max_new_tokens=32),
        ),
        RunOptions(  # what is quantised beside what is not
            preset="quantised",
            requests=6,
            warmup=2,
            blocks=3,
            until=0.05,
            at_most=1800.0,
            fidelity=True,
            sampling=Sampling(max_new_tokens=128),
        ),
        RunOptions(  # one method an engine
            preset="engines",
            requests=6,
            warmup=2,
            blocks=3,
            until=0.05,
            at_most=1800.0,
            fidelity=True,
            sampling=Sampling(max_new_tokens=128),
        ),
        RunOptions(  # the article's measurement: its prompt, its sampling
            preset="article",
            model="llm-jp/llm-jp-1.3b-v1.0",
            requests=100,
            warmup=2,
            blocks=5,
            prompt=ARTICLE_PROMPT,
            template=False,
            fidelity=True,
            sampling=Sampling(
                max_new_tokens=256,
                stop_at_eos=True,
                temperature=0.8,
                top_p=0.95,
                top_k=50,
                repetition_penalty=1.10,
            ),
        ),
    )
}
