"""The tokeniser: whole decoding, and decoding as the ids come, which must add up to the same text."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from methods.models.models import Model
from methods.text.tokeniser import UNDECIDED, Tokeniser, TokeniserError

TEXTS = (
    "The ferry leaves at six.  Two   spaces, a\ttab,\r\n and a line.\n\n",
    "今日は良い天気ですね。このあとの予定は、近くの公園まで散歩に行くことです。",
    "Ελληνικά, Русский, العربية, हिन्दी, ไทย, 한국어",
    "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 🇯🇵, e\u0301 combining, 𝒳 math, \u200b zero width",
    "def f(x):\n    return {'a': [x ** 2 for x in range(10)]}  # ünïcödé",
    "\x1b[31mred\x1b[0m \x07 [bold]markup[/bold] \x00",
    "",
)


@pytest.fixture(scope="module")
def byte_level(default_model: Model) -> Tokeniser:
    return Tokeniser(default_model.folder)


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Tokeniser:
    """A tokeniser as Llama's: words begin with ▁, and what the vocabulary lacks is spelt in bytes."""
    folder = tmp_path_factory.mktemp("sentencepiece")
    words = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "▁The",
        "▁ferry",
        "天",
        "気",
        "▁の",
    ]
    words += [chr(code) for code in range(33, 127)]
    tokenizer = Tokenizer(
        models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    return Tokeniser(folder)


def pieces(tokeniser: Tokeniser, ids: list[int], chunk: int = 1) -> list[str]:
    stream = tokeniser.stream()
    found = [stream.feed(ids[start : start + chunk]) for start in range(0, len(ids), chunk)]
    return [*found, stream.finish()]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("chunk", [1, 3, 7])
@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_streamed_pieces_add_up_to_the_whole_text(
    request: pytest.FixtureRequest, kind: str, text: str, chunk: int
) -> None:
    tokeniser: Tokeniser = request.getfixturevalue(kind)
    ids = tokeniser.encode(text * 5)
    found = pieces(tokeniser, ids, chunk)
    assert "".join(found) == tokeniser.decode(ids)
    assert "".join(found) == text * 5
    assert not any(UNDECIDED in piece for piece in found)


def test_text_is_given_out_as_soon_as_it_is_decided(byte_level: Tokeniser) -> None:
    stream = byte_level.stream()
    for index in byte_level.encode("The ferry leaves at six"):
        assert stream.feed([index]) == byte_level.decode([index])


def test_a_half_character_waits_for_its_other_half(byte_level: Tokeniser) -> None:
    ids = byte_level.encode("𓀀")
    assert len(ids) >= 2
    stream = byte_level.stream()
    assert [stream.feed([index]) for index in ids] == [""] * (len(ids) - 1) + ["𓀀"]


def test_a_half_character_at_the_end_comes_out_when_nothing_follows(byte_level: Tokeniser) -> None:
    ids = byte_level.encode("ok 𓀀")[:-1]
    found = pieces(byte_level, ids)
    assert found[-1] != ""
    assert "".join(found) == byte_level.decode(ids)


def test_random_ids_stream_to_what_they_decode_to(byte_level: Tokeniser) -> None:
    chance = random.Random(7)  # noqa: S311
    for _ in range(30):
        ids = chance.choices(range(byte_level.vocab_size), k=200)
        assert "".join(pieces(byte_level, ids)) == byte_level.decode(ids)


def test_bytes_that_are_no_utf8_stream_to_what_they_decode_to_and_are_not_kept(byte_level: Tokeniser) -> None:
    tokenizer = Tokenizer.from_file(str(Path(byte_level.folder) / "tokenizer.json"))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    single = [index for letter in alphabet if (index := tokenizer.token_to_id(letter)) is not None]
    broken = [index for index in single if UNDECIDED in byte_level.decode([index])]
    assert len(broken) > 60
    chance = random.Random(3)  # noqa: S311
    for _ in range(20):
        ids = chance.choices(broken, k=300)
        found = pieces(byte_level, ids)
        assert "".join(found) == byte_level.decode(ids)
        assert max(map(len, found)) < 20


def test_special_tokens_are_left_out_and_do_not_swallow_a_space(
    sentencepiece: Tokeniser, byte_level: Tokeniser
) -> None:
    one = sentencepiece.encode("The ferry")
    (end,) = sentencepiece.encode("</s>")
    ids = [*one, end, *one]
    assert sentencepiece.decode(ids) == "The ferry The ferry"
    assert "".join(pieces(sentencepiece, ids)) == "The ferry The ferry"
    (eos,) = byte_level.encode("<|im_end|>")
    assert "".join(pieces(byte_level, [eos, *byte_level.encode("a"), eos])) == "a"


def test_ids_without_a_token_say_nothing(byte_level: Tokeniser) -> None:
    ids = [*byte_level.encode("a"), byte_level.vocab_size + 5, -1, 1 << 40, *byte_level.encode("b")]
    assert byte_level.decode(ids) == "ab"
    assert "".join(pieces(byte_level, ids)) == "ab"


def test_a_token_costs_the_same_however_long_the_text_is(byte_level: Tokeniser) -> None:
    ids = byte_level.encode(TEXTS[1] * 400)
    stream = byte_level.stream()

    def cost(part: list[int]) -> float:
        best = float("inf")
        for start in range(0, len(part), 500):
            began = time.thread_time()
            stream.feed(part[start : start + 500])
            best = min(best, time.thread_time() - began)
        return best

    assert len(ids) > 8000
    early, _, late = cost(ids[:2000]), stream.feed(ids[2000:6000]), cost(ids[6000:8000])
    assert late < early * 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "has no tokenizer.json"),
        (b"", "not a readable tokeniser"),
        (b"{}", "not a readable tokeniser"),
        (b"\xff\xfe", "cannot be read"),
        (b'{"version": "1.0", "model": {"type": "Nonsense"}}', "not a readable tokeniser"),
    ],
)
def test_a_broken_tokeniser_is_a_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokeniserError, match=said) as caught:
        Tokeniser(tmp_path)
    assert "\n" not in str(caught.value)
