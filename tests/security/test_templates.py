"""Chat templates are strangers' programs: sandboxed, bounded in time and memory, and refused in one sentence."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from methods.text.chat_template import TemplateError, rendered
from methods.text.template_sandbox import CPU_SECONDS, LARGEST_RESULT, MEMORY_BYTES
from tests.sessions.workplace import Workplace, make_model

ROOT = Path(__file__).parents[2]
MESSAGES = [{"role": "user", "content": "Hi"}]

REACHING: dict[str, str] = {
    "attributes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals of what it is given": "{{ raise_exception.__globals__ }}",
    "globals by a filter": "{{ (strftime_now|attr('__globals__'))['os'] }}",
    "format strings": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "format maps": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "imports": "{% import 'os' as os %}{{ os.system('true') }}",
    "includes": "{% include '/etc/passwd' %}",
    "a function's code": "{{ namespace.__init__.__code__ }}",
    "frames": "{% set g = (messages|map('upper')) %}{{ g.gi_frame.f_back }}",
    "self": "{{ self.__init__.__globals__ }}",
    "names of Python": "{{ open('/etc/passwd').read() }}",
    "changing what it is given": "{{ messages.append(1) }}",
}
ENDLESS: dict[str, str] = {
    "a loop in a loop": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "recursion": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "a long range": "{% for i in range(999999999) %}x{% endfor %}",
    "a power": "{{ 10 ** 10 ** 10 }}",
    "a number of a million digits": "{% set ns = namespace(n=9) %}{% for i in range(99) %}"
    "{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n }}",
}
HUGE: dict[str, str] = {
    "a text that doubles": "{% set ns = namespace(t='xxxxxxxx') %}{% for i in range(60) %}"
    "{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t|length }}",
    "a list that doubles": "{% set ns = namespace(t=[1, 2]) %}{% for i in range(60) %}"
    "{% set ns.t = ns.t + ns.t %}{% endfor %}",
    "a wide format": "{{ '%9999999999d' % 1 }}",
    "a wide format method": "{{ '{:9999999999}'.format(1)|length }}",
    "a filter that pads": "{{ 'x'|center(9999999999)|length }}",
    "an indentation": "{{ 'x\ny'|indent(9999999999)|length }}",
    "a replacement": "{% set ns = namespace(t='xxxxxxxx') %}{% for i in range(30) %}"
    "{% set ns.t = ns.t.replace('x', ns.t) %}{% endfor %}",
    "a multiplication": "{{ 'x' * 9999999999 }}",
    "output without end": "{% for i in range(99999) %}{{ 'x'.ljust(99999) }}{% endfor %}",
    "one long piece": "{{ 'x'.ljust(5000000) }}",
}


def refusal(template: str) -> str:
    """What is said of a template that is refused: one line, not too long, with the way out."""
    with pytest.raises(TemplateError) as caught:
        rendered(template, MESSAGES, {})
    said = str(caught.value)
    assert said.startswith("The model's chat template cannot be rendered (")
    assert said.endswith("; use --raw.")
    assert "\n" not in said
    assert len(said) < 400
    return said


@pytest.mark.parametrize("name", REACHING)
def test_a_template_reaches_nothing_of_python(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        said = rendered(REACHING[name], MESSAGES, {})
    except TemplateError as error:
        said = str(error)
        assert "use --raw" in said
    else:
        assert said == "", "what Jinja's sandbox keeps from it is empty"
    assert not re.search("root:|<(class|function|code|module)|builtins", said)
    assert not list(tmp_path.iterdir())


def test_what_python_would_tell_is_nothing_to_a_template() -> None:
    """Names that are not there are empty, as in Jinja anywhere."""
    assert rendered("{{ os }}{{ sys }}{{ builtins }}{{ __import__ }}{{ config }}", MESSAGES, {}) == ""


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_without_end_is_ended(name: str) -> None:
    before = children_cpu_s()
    said = refusal(ENDLESS[name])
    assert name != "a loop in a loop" or f"it takes more than {CPU_SECONDS} s" in said
    assert children_cpu_s() - before < CPU_SECONDS + 2, "as the kernel counted it"


LARGEST_CHILD = """
import json, resource, sys
from methods.text.chat_template import TemplateError, rendered
for template in json.load(sys.stdin):
    try:
        rendered(template, [{"role": "user", "content": "Hi"}], {})
    except TemplateError as error:
        print(json.dumps([str(error), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))
"""


def test_a_template_that_would_fill_the_memory_is_ended_and_the_reasons_say_which_bound_it_was() -> None:
    """In a process that has had no other children, whose memory the kernel would remember."""
    templates = json.dumps(list(HUGE.values()))
    done = subprocess.run(
        [sys.executable, "-c", LARGEST_CHILD], input=templates, capture_output=True, text=True, cwd=ROOT, check=True
    )
    ended = dict(zip(HUGE, map(json.loads, done.stdout.splitlines()), strict=True))
    for name, (said, largest_child) in ended.items():
        assert said.startswith("The model's chat template cannot be rendered ("), name
        assert largest_child < MEMORY_BYTES + (64 << 20), name
    assert f"more than {MEMORY_BYTES >> 20} MB" in ended["a text that doubles"][0]
    assert f"more than {LARGEST_RESULT:,} characters" in ended["one long piece"][0]


def test_a_reason_is_one_short_line_whatever_the_template_says() -> None:
    said = refusal("{{ raise_exception('\\n\\x1b]0;owned\\x07' ~ 'long '.ljust(100000, 'g')) }}")
    assert len(said) < 400
    assert refusal("{{ raise_exception('') }}") == (
        "The model's chat template cannot be rendered (TemplateRuntimeError); use --raw."
    )


def test_half_a_character_is_no_prompt() -> None:
    assert "surrogates" in refusal('{{ "\\ud800" }}')


def test_the_process_that_renders_gets_no_variable_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it inherits is looked at from inside: the real child with another program, since a template cannot look."""
    spy = tmp_path / "spy.py"
    spy.write_text(
        "import json, os, sys\nsys.stdin.read()\n"
        "held = [os.readlink(f'/proc/self/fd/{d}') for d in os.listdir('/proc/self/fd') if int(d) > 2"
        " and os.path.exists(f'/proc/self/fd/{d}')]\n"
        "text = json.dumps([sorted(os.environ), os.getcwd(), held])\n"
        "print(json.dumps({'results': [{'text': text}], 'dated': False}))\n"
    )
    monkeypatch.setattr("methods.text.chat_template.SANDBOX", spy)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        variables, folder, held = json.loads(rendered("", MESSAGES, {}))
    assert set(variables) <= {"PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LC_CTYPE"}
    assert folder == "/"
    assert not [path for path in held if str(tmp_path) in path and "spy" not in path]


def test_what_models_really_write_is_rendered() -> None:
    template = (
        "{{ bos_token }}{% for message in messages %}{% if not loop.first %}{% continue %}{% endif %}"
        "<|{{ message['role'] }}|>{{ message['content']|trim }}{{ '=' * 3 if false }}{{ 2 * 3 }}"
        "{% endfor %}{{ strftime_now('%d %b %Y') }}"
    )
    messages = [{"role": "user", "content": " 猫🙂 "}]
    text = rendered(template, messages, {"bos_token": "<s>"}, lambda: datetime(2026, 1, 2))  # noqa: DTZ001
    assert text == "<s><|user|>猫🙂602 Jan 2026"


def test_a_run_whose_model_has_such_a_template_is_refused_before_any_session(work: Workplace, tmp_path: Path) -> None:
    model = make_model(tmp_path / "trap", ["hello", "world"])
    (model / "chat_template.jinja").write_text(HUGE["one long piece"])
    work.method("one")
    said = work.command(*work.options("one", model=model, prompt_tokens=None, prompt="hello"))
    if work.sessions():  # the model had to be prepared first: then it is the session's sentence
        work.finished(work.sessions()[0])
        assert "chat template cannot be rendered" in work.sessions()[0].read().error
    else:
        assert said.code == 2
        assert "chat template cannot be rendered" in said.err
    assert "Traceback" not in said.err
