"""Odd tokenisers get the ids of transformers: each folder's, all asked of transformers in one process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from methods.base.interpreter import Interpreter
from methods.text.chat_template import chat_template, special_tokens, user_turn
from methods.text.tokeniser import Tokeniser, TokeniserError

Made = dict[str, Any]  # a file's content by its name, None for no such file

SPECIAL: Final = ("<s>", "</s>", "<|begin|>", "<|end|>")
TEMPLATE: Final = (
    "{{ bos_token }}{% for m in messages %}<|begin|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{{ eos_token }}"
)
TEXTS: Final = ("hi <|begin|> there<|end|>", " <|begin|>", "<image><pad>", "café <s>  x</s>", "<|end|> \n<|late|>", "")

ASK: Final = """
import json, sys, warnings
warnings.simplefilter("ignore")
import transformers
transformers.logging.set_verbosity_error()
told = {}
for folder in sys.argv[2:]:
    tokeniser = transformers.AutoTokenizer.from_pretrained(folder)
    chat = tokeniser.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, return_dict=True)["input_ids"]
    told[folder] = [tokeniser.encode(t, add_special_tokens=False) for t in json.loads(sys.argv[1])] + [list(chat)]
print(json.dumps(told))
"""


def written(content: str, index: int, **flags: bool) -> dict[str, object]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": content, "special": True, **plain, **flags}


def listed(*tokens: dict[str, object]) -> dict[str, object]:
    """As added_tokens_decoder has them."""
    return {str(token["id"]): {name: value for name, value in token.items() if name != "id"} for token in tokens}


ALL: Final = [written(text, 256 + place) for place, text in enumerate(SPECIAL)]


def whole() -> Made:
    """The files of a byte-level tokeniser with four special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary | {text: 256 + place for place, text in enumerate(SPECIAL)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return {
        "tokenizer.json": json.loads(tokenizer.to_str()),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "chat_template": TEMPLATE,
        },
    }


def lose(made: Made, *texts: str) -> None:
    added = made["tokenizer.json"]["added_tokens"]
    made["tokenizer.json"]["added_tokens"] = [token for token in added if token["content"] not in texts]


def nothing_odd(_: Made) -> None:
    pass


def only_the_config_knows_them(made: Made) -> None:
    lose(made, "<|begin|>", "<|end|>")
    made["tokenizer_config.json"]["added_tokens_decoder"] = listed(*ALL)


def ids_out_of_order(made: Made) -> None:
    later = written("<|late|>", 300), written("<pad>", 270), written("<image>", 290, normalized=True, special=False)
    made["tokenizer_config.json"]["added_tokens_decoder"] = listed(*ALL, *later)


def other_flags_than_the_tokeniser_has(made: Made) -> None:
    begin = written("<|begin|>", 258, lstrip=True, rstrip=True)
    made["tokenizer_config.json"]["added_tokens_decoder"] = listed(ALL[0], ALL[1], begin, ALL[3])


def a_named_token_that_nothing_lists(made: Made) -> None:
    made["tokenizer_config.json"] |= {"pad_token": "<pad>", "unk_token": "<image>"}


def extra_tokens_that_nothing_lists(made: Made) -> None:
    made["tokenizer_config.json"]["additional_special_tokens"] = ["<|late|>", {**ALL[0], "content": "<image>"}]
    del made["tokenizer_config.json"]["additional_special_tokens"][1]["id"]
    made["tokenizer_config.json"]["additional_special_tokens"][1]["__type"] = "AddedToken"


def extra_tokens_with_names(made: Made) -> None:
    made["tokenizer_config.json"]["extra_special_tokens"] = {"image_token": "<image>", "late_token": "<|late|>"}


def a_token_of_the_models_own_kind(made: Made) -> None:
    made["tokenizer_config.json"]["image_token"] = "<image>"


def named_tokens_as_tables(made: Made) -> None:
    begin = {name: value for name, value in written("<|begin|>", 0, lstrip=True).items() if name != "id"}
    made["tokenizer_config.json"]["bos_token"] = {"__type": "AddedToken", **begin}
    lose(made, "<|begin|>")


def an_old_map_of_special_tokens(made: Made) -> None:
    lose(made, *SPECIAL)
    made["special_tokens_map.json"] = {"bos_token": "<|begin|>", "pad_token": {"content": "<pad>", "lstrip": True}}


def a_new_list_beside_an_old_map(made: Made) -> None:
    made["tokenizer_config.json"]["added_tokens_decoder"] = listed(*ALL)
    made["special_tokens_map.json"] = {"bos_token": "<|begin|>", "pad_token": "<pad>"}


def an_old_list_of_added_tokens(made: Made) -> None:
    lose(made, "<|begin|>")
    made["added_tokens.json"] = {"<|late|>": 261, "<|begin|>": 258, "<image>": 260}


def special_tokens_that_are_split(made: Made) -> None:
    made["tokenizer_config.json"]["split_special_tokens"] = True


def no_config(made: Made) -> None:
    made["chat_template.jinja"] = TEMPLATE
    made["tokenizer_config.json"] = None


def a_token_that_is_not_special(made: Made) -> None:
    lose(made, "<|begin|>")
    made["tokenizer_config.json"]["added_tokens_decoder"] = listed(written("<|begin|>", 258, special=False))


ODD: Final[tuple[Callable[[Made], None], ...]] = (
    nothing_odd,
    only_the_config_knows_them,
    ids_out_of_order,
    other_flags_than_the_tokeniser_has,
    a_named_token_that_nothing_lists,
    extra_tokens_that_nothing_lists,
    extra_tokens_with_names,
    a_token_of_the_models_own_kind,
    named_tokens_as_tables,
    an_old_map_of_special_tokens,
    a_new_list_beside_an_old_map,
    an_old_list_of_added_tokens,
    special_tokens_that_are_split,
    no_config,
    a_token_that_is_not_special,
)


def write(folder: Path, make_odd: Callable[[Made], None]) -> Path:
    made = whole()
    make_odd(made)
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    for name, content in made.items():
        if content is not None:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.model
@pytest.mark.engines
def test_odd_tokenisers_give_the_ids_of_transformers(tmp_path: Path, torch_interpreter: Interpreter) -> None:
    folders = {odd.__name__: write(tmp_path / odd.__name__, odd) for odd in ODD}
    command = [str(torch_interpreter.python), "-I", "-c", ASK, json.dumps(TEXTS), *map(str, folders.values())]
    theirs = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for name, folder in folders.items():
        tokeniser = Tokeniser(folder)
        template = chat_template(folder)
        assert template is not None
        turn = user_turn(template, "hi", special_tokens(folder))
        ours = [tokeniser.encode(text) for text in (*TEXTS, turn.text)]
        assert ours == theirs[str(folder)], name


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
def test_a_file_beside_the_tokeniser_that_cannot_be_read_is_a_sentence(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "odd", nothing_odd)
    for spoil in (lambda path: path.write_text("["), lambda path: path.write_bytes(b"\xef\xbb\xbf{}"), Path.mkdir):
        (folder / name).unlink(missing_ok=True)
        spoil(folder / name)
        with pytest.raises(TokeniserError, match=f"^{folder / name} .*\\.$"):
            Tokeniser(folder)


def test_what_the_files_beside_the_tokeniser_say_in_a_wrong_shape_adds_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "odd", nothing_odd)
    plain = Tokeniser(folder).encode("hi <s>")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": 3, "added_tokens_decoder": [1], "extra_special_tokens": "x", "pad_token": {"a": 1}})
    )
    assert Tokeniser(folder).encode("hi <s>") == plain
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"x": 1, "7": None, "8": {}}}))
    assert Tokeniser(folder).encode("hi <s>") == plain
