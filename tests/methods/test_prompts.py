"""Prompts: read from where the user says, made into ids once, and refused in one sentence where they make no sense."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from methods.models import prompts
from methods.models.models import Model
from methods.models.prompts import ARTICLE, DEFAULT, PromptError, make, read_prompt
from methods.text import chat_template
from methods.text.chat_template import TemplateError
from methods.text.tokeniser import Tokeniser

MESSAGES = [{"role": "user", "content": "Hi"}]


def standard_input(content: bytes = b"") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content))


@pytest.fixture
def copy(default_model: Model, tmp_path: Path) -> Model:
    """The default model without its weights, to be spoilt."""
    folder = tmp_path / "model"
    shutil.copytree(default_model.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return replace(default_model, folder=folder)


def test_the_prompt_is_text_a_file_or_standard_input(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("from a file 🙂\n", encoding="utf-8")
    assert read_prompt("plain", standard_input(b"unread")) == "plain"
    assert read_prompt(f"@{tmp_path / 'p'}", standard_input()) == "from a file 🙂\n"
    assert read_prompt("-", standard_input(b"piped\n")) == "piped\n"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("-", "empty: standard input"),
        ("@missing", "no such file"),
        ("@.", "is a directory"),
        ("@binary", "not UTF-8"),
        ("@empty", "empty: the file"),
        ("@a\0b", "cannot be read"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    (tmp_path / "empty").touch()
    with pytest.raises(PromptError, match=said) as caught:
        read_prompt(argument, standard_input(b" "))
    assert "\n" not in str(caught.value)


def test_standard_input_that_is_no_utf8_is_a_sentence() -> None:
    with pytest.raises(PromptError, match="standard input is not UTF-8"):
        read_prompt("-", standard_input(b"\xff"))


def test_a_prompt_from_windows_is_the_same_prompt(tmp_path: Path) -> None:
    windows = tmp_path / "windows"
    windows.write_bytes(b"\xef\xbb\xbfHello\r\nWorld\rand moon")
    for argument in (f"@{windows}", "-", "\ufeffHello\r\nWorld\rand moon"):
        assert read_prompt(argument, standard_input(windows.read_bytes())) == "Hello\nWorld\nand moon"
    windows.write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(PromptError, match="empty"):
        read_prompt(f"@{windows}", standard_input())
    windows.write_text("Hello", encoding="utf-16")
    with pytest.raises(PromptError, match=r"UTF-16; save it as UTF-8 \(in PowerShell"):
        read_prompt(f"@{windows}", standard_input())


@pytest.mark.parametrize("argument", ["@/dev/zero", "-", "@{fifo}"])
def test_of_a_prompt_without_end_no_more_is_read_than_of_a_file(tmp_path: Path, argument: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with (
        subprocess.Popen(["sh", "-c", f"exec yes >'{fifo}'"]) as writer,
        Path("/dev/zero").open(encoding="utf-8") as endless,
    ):
        try:
            with pytest.raises(PromptError, match="is larger than 16 MB; shorten it"):
                read_prompt(argument.format(fifo=fifo), endless)
        finally:
            writer.kill()


def test_by_default_a_model_with_a_template_gets_it(default_model: Model) -> None:
    prompt = make(default_model, "Hi")
    assert prompt.template
    assert prompt.rendered is not None
    assert prompt.rendered.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    tokeniser = Tokeniser(default_model.folder)
    assert list(prompt.ids) == tokeniser.encode(prompt.rendered)
    assert [prompt.ids[0]] == tokeniser.encode("<|im_start|>")
    assert make(default_model, "Hi", "chat") == prompt
    assert make(default_model).text == DEFAULT


def test_raw_is_the_text_and_no_special_token(default_model: Model) -> None:
    prompt = make(default_model, ARTICLE, "raw")
    assert (prompt.rendered, prompt.template) == (ARTICLE, False)
    tokeniser = Tokeniser(default_model.folder)
    assert tokeniser.decode(prompt.ids) == ARTICLE
    assert len(tokeniser.textual(prompt.ids)) == len(prompt.ids)


def test_the_digest_tells_prompts_apart(default_model: Model) -> None:
    one, two = make(default_model, "Hi", "raw"), make(default_model, "Ho", "raw")
    assert one.digest == prompts.digest_of(one.ids) != two.digest


@pytest.mark.parametrize("tokens", [1, 17, 1000])
@pytest.mark.parametrize("text", [None, "猫 and dog. "])
def test_a_prompt_of_an_exact_number_of_tokens(default_model: Model, tokens: int, text: str | None) -> None:
    prompt = make(default_model, text, tokens=tokens)
    assert len(prompt.ids) == tokens
    assert not prompt.template
    assert prompt.rendered is not None
    assert prompt.rendered.startswith("猫" if text else "The") or tokens == 1


def test_a_model_without_a_tokeniser_gets_random_ids_of_its_own(default_model: Model) -> None:
    synthetic = replace(default_model, has_tokeniser=False, vocab_size=100, eos_token_ids=(7,))
    prompt = make(synthetic, tokens=5000, seed=3)
    assert len(prompt.ids) == 5000
    assert set(prompt.ids) == set(range(100)) - {7}
    assert make(synthetic, tokens=5000, seed=3) == prompt
    assert make(synthetic, tokens=5000, seed=4).ids != prompt.ids
    assert (prompt.text, prompt.rendered) == (None, None)
    assert len(make(synthetic).ids) == prompts.SYNTHETIC_TOKENS
    with pytest.raises(PromptError, match="--prompt-tokens"):
        make(synthetic, "some text")
    with pytest.raises(PromptError, match="has no tokeniser"):
        make(synthetic, mode="chat")
    with pytest.raises(PromptError, match="vocabulary size"):
        make(replace(synthetic, vocab_size=None))


def test_what_does_not_fit_the_context_says_how_much_would(default_model: Model) -> None:
    small = replace(default_model, context_length=64)
    length = len(make(small, "Hi", "raw").ids)
    assert make(small, "Hi", "raw", max_new_tokens=64 - length)
    with pytest.raises(PromptError, match=f"context of 64; .* to {64 - length}\\."):
        make(small, "Hi", "raw", max_new_tokens=65 - length)
    with pytest.raises(PromptError, match=r"context of 64; shorten the prompt to 60 tokens\.$"):
        make(small, tokens=65, max_new_tokens=4)
    assert make(replace(small, context_length=None), tokens=65)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "empty"),
        (" \t", {"mode": "raw"}, "empty"),
        ("\udcff", {}, "not UTF-8"),
        ("a", {"tokens": 0}, "must be at least 1"),
        ("a", {"tokens": -3}, "must be at least 1"),
        ("a", {"tokens": 4, "mode": "chat"}, "excludes --chat"),
        ("a", {"tokens": 10**12}, "do not fit"),
    ],
)
def test_a_prompt_that_makes_no_sense_is_a_sentence(
    default_model: Model, text: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(PromptError, match=said):
        make(default_model, text, **options)  # type: ignore[arg-type]


def test_chat_without_a_template_is_a_sentence_and_the_default_is_raw_then(copy: Model) -> None:
    (copy.folder / "chat_template.jinja").unlink()
    assert not make(copy, "Hi").template
    with pytest.raises(PromptError, match="no chat template; use --raw"):
        make(copy, "Hi", "chat")


def test_a_broken_tokeniser_is_a_sentence(copy: Model) -> None:
    (copy.folder / "tokenizer.json").write_text("{")
    with pytest.raises(PromptError, match=r"tokenizer.json is not a readable tokeniser"):
        make(copy, "Hi")


def test_templates_are_found_where_any_transformers_put_them(tmp_path: Path) -> None:
    assert chat_template.chat_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"chat_template": "one", "bos_token": {"content": "<s>"}, "eos_token": "</s>"}')
    assert chat_template.chat_template(tmp_path) == "one"
    assert chat_template.special_tokens(tmp_path) == {"bos_token": "<s>", "eos_token": "</s>"}
    config.write_text(
        '{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}'
    )
    assert chat_template.chat_template(tmp_path) == "d"
    config.write_text('{"chat_template": [{"name": "tool_use", "template": "t"}]}')
    with pytest.raises(
        TemplateError, match=r"several chat templates \(tool_use\) and none is its default; .* use --raw"
    ):
        chat_template.chat_template(tmp_path)
    config.write_text("{}")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("r")
    with pytest.raises(TemplateError, match=r"several chat templates \(rag\)"):
        chat_template.chat_template(tmp_path)
    (tmp_path / "additional_chat_templates" / "rag.jinja").unlink()
    (tmp_path / "chat_template.json").write_text('{"chat_template": "json"}')
    assert chat_template.chat_template(tmp_path) == "json"
    (tmp_path / "chat_template.jinja").write_text("jinja")
    assert chat_template.chat_template(tmp_path) == "jinja"


def test_a_template_has_what_transformers_offers_it() -> None:
    template = (
        "{%- for message in messages %}\n"
        "    {%- if loop.index > 1 %}{% break %}{% endif %}\n"
        "{{ bos_token }}[{{ message.role }}]{{ message['content'] | tojson }}\n"
        "{%- endfor %}"
        "{{ strftime_now('%Y') }}{% if add_generation_prompt %}>{% endif %}{{ {'a': 'é<'} | tojson(indent=None) }}"
    )
    messages = [{"role": "user", "content": 'say "猫"'}, {"role": "user", "content": "never"}]
    text = chat_template.rendered(template, messages, {"bos_token": "<s>"}, now=lambda: datetime(2024, 1, 2))  # noqa: DTZ001
    assert text == '<s>[user]"say \\"猫\\""2024>{"a": "é<"}'


def test_the_generation_tag_is_as_if_it_were_not_there() -> None:
    template = "{% for m in messages %}{% generation %}[{{ m.content }}]{% endgeneration %}{% endfor %}"
    assert chat_template.rendered(template, MESSAGES, {}) == "[Hi]"
    assert (
        chat_template.rendered("{%- if false %}{% generation %}x{% endgeneration %}{%- endif %}y", MESSAGES, {}) == "y"
    )
    with pytest.raises(TemplateError, match="endgeneration"):
        chat_template.rendered("{% generation %}", MESSAGES, {})


PARTS = (
    "{% for m in messages %}{% for c in m.content | selectattr('type', 'equalto', 'text') %}{{ c.text }}{% endfor %}"
)


@pytest.mark.parametrize(
    "template",
    [
        "<{{ messages[0].content }}>",
        "<{{ messages[0].content | trim }}>",
        "<{{ messages[0].content | tojson }}>",
        f"<{PARTS}>{{% endfor %}}",
        "{% if messages[0].content is string %}{{ raise_exception('no') }}{% endif %}" + f"<{PARTS}>{{% endfor %}}",
    ],
)
@pytest.mark.parametrize("text", ["Why is\nthe sky blue? ", 'say "猫"', chat_template.OTHER_WORDS])
def test_the_users_words_are_in_what_a_template_renders(template: str, text: str) -> None:
    turn = chat_template.user_turn(template, text, {})
    written = json.dumps(text, ensure_ascii=False)[1:-1] if "tojson" in template else text.strip()
    assert written in turn.text
    assert not turn.dated


@pytest.mark.parametrize(
    "template",
    [
        "This is for you:",
        "{{ messages[0].content | upper }}",
        "{% for c in messages[0].content %}{% if c.type == 'image' %}<image>{% endif %}{% endfor %}this is",
    ],
)
def test_a_template_that_drops_the_users_words_is_refused(template: str) -> None:
    with pytest.raises(TemplateError, match="leaves the prompt out, or changes its words; use --raw"):
        chat_template.user_turn(template, "is", {})


def test_a_template_that_asks_for_the_time_says_so() -> None:
    assert chat_template.user_turn("{{ strftime_now('%d') }} {{ messages[0].content }}", "Hi", {}).dated


@pytest.mark.parametrize(
    "spoilt", ["latin-1", "a link that leads nowhere", "a folder", "a broken tokenizer_config.json"]
)
def test_a_template_that_cannot_be_read_is_a_sentence_and_raw_goes_without_it(copy: Model, spoilt: str) -> None:
    path = copy.folder / "chat_template.jinja"
    path.unlink()
    if spoilt == "latin-1":
        path.write_text("Sch\u00f6n {{ messages[0].content }}", encoding="latin-1")
    elif spoilt == "a folder":
        path.mkdir()
    elif spoilt == "a link that leads nowhere":
        path.symlink_to("nowhere.jinja")
    else:
        (copy.folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(PromptError, match=r"(chat_template\.jinja|tokenizer_config\.json) .*\.$") as caught:
        make(copy, "Hi")
    assert "\n" not in str(caught.value)
    if spoilt != "a broken tokenizer_config.json":
        assert "use --raw" in str(caught.value)
        assert not make(copy, "Hi", "raw").template


def test_a_token_that_the_weights_have_no_row_for_is_refused(copy: Model) -> None:
    path = copy.folder / "tokenizer.json"
    content = json.loads(path.read_bytes())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 49152, "content": "<extra>"})
    path.write_text(json.dumps(content))
    with pytest.raises(PromptError, match=r"Token 49152 <extra> .* is not in smollm2-135m's vocabulary of 49,152"):
        make(copy, "Hi <extra>", "raw")
    assert make(copy, "Hi", "raw").ids


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['chat_template'] }}",
        "{{ cycler.__init__.__globals__.os.system('touch hacked') }}",
        "{{ (strftime_now|attr('__globals__'))['os'] }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ messages.append(1) }}",
        "{% for i in range(999999999) %}x{% endfor %}",
        "{{ 'x' * 999999999999 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
        "{{ raise_exception('Roles must\\nalternate') }}",
        "{% for %}",
        "{{ undefined.attribute }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_that_is_malicious_or_broken_is_a_sentence(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TemplateError, match="use --raw") as caught:
        chat_template.rendered(template, MESSAGES, {})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
