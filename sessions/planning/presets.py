"""The presets of `kasoku run`: the defaults of a measurement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sessions.disk.plan import Sampling

ARTICLE_PROMPT: Final = "今日は良い天気ですね。このあとの予定は"


@dataclass(frozen=True, slots=True)
class Preset:
    """Defaults of a plan; its methods are those that name the preset in the catalogue."""

    name: str
    summary: str
    model: str
    requests: int
    warmup: int
    blocks: int
    prompt: str | None
    template: bool | None
    sampling: Sampling = field(default_factory=Sampling)
    dtype: str = "bfloat16"


PRESETS: Final = {
    preset.name: preset
    for preset in (
        Preset(
            name="quick",
            summary="A first look on any machine: a few greedy responses of a small model, three blocks per method.",
            model="smollm2-135m",
            requests=6,
            warmup=2,
            blocks=3,
            prompt=None,
            template=None,
            sampling=Sampling(max_new_tokens=48),
        ),
        Preset(
            name="article",
            summary="The article's measurement: its prompt, its sampling, 100 responses per method.",
            model="llm-jp/llm-jp-1.3b-v1.0",
            requests=100,
            warmup=2,
            blocks=5,
            prompt=ARTICLE_PROMPT,
            template=False,
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
