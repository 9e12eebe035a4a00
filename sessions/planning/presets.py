"""The presets of `kasoku run`: the defaults of a measurement."""

from __future__ import annotations

from typing import Final

from sessions.disk.loads import Loads
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
        RunOptions(  # the load curve, as far as it rises
            preset="load",
            warmup=2,
            blocks=5,
            loads=Loads(
                isl="512,2048",
                osl="128,256",
                concurrency="1,2,4,8,16,32,64,128,256",
                until_saturated=True,
            ),
        ),
        RunOptions(  # pp512 and tg128
            preset="llama-bench",
            warmup=1,
            blocks=5,
            loads=Loads(isl="512,1", osl="1,129"),
        ),
        RunOptions(  # the shape and the ladder of InferenceX
            preset="inferencex",
            warmup=2,
            blocks=5,
            loads=Loads(isl="8192", osl="1024", concurrency="4,8,16,32,64,128,256"),
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
