"""A session in the article's own tables: machine and VRAM used, time taken, tokens/s per method, and its closing sum.

The closing sum: how long a method takes to generate a text of 319 characters, which a person speaks in about 60 s. The
article's text was 187 tokens of its model's tokeniser. Ours is another text of the same length, so that any model's
tokeniser can count it; where none is at hand, the article's count stands in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from methods.models.model import Model
from sessions.disk.journal import prepared
from sessions.disk.session_folder import SessionFile, SessionFolder
from sessions.verdict.comparison import Comparison
from sessions.verdict.comparison_row import ComparisonRow

SPOKEN_S: Final = 60.0
ARTICLE_TOKENS: Final = 187
CHARACTERS: Final = 319
TEXT: Final = (
    "私の持ち味は、物事を最後まで丁寧に確かめる姿勢です。学生の頃は町の小さな図書館で働き、本の整理と貸し出しを"
    "担当していました。ある日、利用者の方から探している本が見つからないという相談を受けました。題名も著者も"
    "はっきりしませんでしたが、内容を一つずつ伺いながら棚を見て回り、二時間ほどかけてようやく見つけることが"
    "できました。その方がとても喜んでくださったことを、今でもよく覚えています。それ以来、私は分からないことを"
    "そのままにせず、手がかりを集めて順番に調べることを大切にしてきました。御社の仕事でも、お客様の小さな声に"
    "耳を澄ませ、確かな事実を積み重ねながら、信頼していただける結果を出していきたいと考えています。新しい技術も"
    "学び続けます。"
)


@dataclass(frozen=True, slots=True)
class Closing:
    """`tokens` of the reference text, who counted them, and for each method its seconds and 60 s divided by them."""

    tokens: int
    counted: str
    rows: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True)
class ArticleTables:
    """The article's tables: (heading, value) pairs of the machine and the model, the time, (method, tokens/s) rows."""

    machine: tuple[tuple[str, str], ...]
    model: tuple[tuple[str, str], ...]
    total_s: float | None
    methods: tuple[tuple[str, float | None], ...]
    closing: Closing
    notes: tuple[str, ...]


def article_tables(session: SessionFile, comparison: Comparison, model: Model | None) -> ArticleTables:
    """The tables of one session; `model` is what the preparation found of it, None where it never got so far."""
    machine = session.machine
    gpus = [gpu for gpu in machine.gpus if gpu.source in session.plan.gpu_sources]
    used = max((row.peak_vram_bytes for row in comparison.rows if row.peak_vram_bytes is not None), default=None)
    vram = [gpu.memory_total_bytes for gpu in gpus if gpu.memory_total_bytes]
    parameters = model.parameters if model is not None else None
    return ArticleTables(
        machine=(
            ("CPU", machine.cpu_model or "–"),
            ("GPU", ", ".join(gpu.name for gpu in gpus) or "–"),
            ("VRAM", f"{sum(vram) / 1e9:.0f} GB" if vram else "–"),
            ("VRAM used", f"{used / 1e9:.2f} GB" if used is not None else "–"),
        ),
        model=(
            ("model", session.plan.model),
            ("parameters", f"{parameters / 1e9:.2f} B" if parameters else "–"),
        ),
        total_s=session.took_s,
        methods=tuple((row.method, row.tok_s_mean) for row in comparison.rows),
        closing=_closing(comparison.rows, model),
        notes=tuple(_note(row) for row in comparison.rows if row.in_effect is False or row.flags),
    )


def prepared_model(folder: SessionFolder) -> Model | None:
    """What the preparation of a session found of its model; None where it never got so far."""
    found = prepared(folder.journal)
    return found.model if found is not None else None


def _note(row: ComparisonRow) -> str:
    parts = [f"not in effect: {row.in_effect_reason}"] if row.in_effect is False else []
    return f"{row.method}: {'; '.join([*parts, *row.flags])}"


def _closing(rows: tuple[ComparisonRow, ...], model: Model | None) -> Closing:
    tokens, counted = reference_tokens(model)
    seconds = [(row.method, tokens / row.tok_s_mean) for row in rows if row.tok_s_mean]
    return Closing(tokens, counted, tuple((name, taken, SPOKEN_S / taken) for name, taken in seconds))


def reference_tokens(model: Model | None) -> tuple[int, str]:
    """How many tokens the reference text is, and by whom that was counted."""
    from methods.text.tokeniser import Tokeniser, TokeniserError

    if model is not None and model.has_tokeniser:
        try:
            return len(Tokeniser(model.folder).encode(TEXT)), f"by the tokeniser of {model.name}"
        except TokeniserError:
            pass
    return ARTICLE_TOKENS, "by the article, with the tokeniser of llm-jp-1.3b-v1.0"
