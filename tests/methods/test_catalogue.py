"""The catalogue: ours, a user's, and what is said of a user's mistakes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from itertools import groupby
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter, Unavailable
from methods.catalogue.availability import DeviceFacts, choices, with_program
from methods.catalogue.catalogue import Catalogue, load_catalogue
from methods.catalogue.evidence import CONDITIONS
from methods.catalogue.method import Method
from methods.catalogue.toml_keys import nearest
from methods.environments.specs import load_specs
from methods.models.conversions import CONVERSIONS

QUANTISED = [
    "torchao-int8",
    "torchao-int4",
    "torchao-fp8",
    "bitsandbytes-int8",
    "bitsandbytes-nf4",
    "kv-fp8",
    "vllm-fp8",
    "vllm-bitsandbytes",
    "vllm-kv-fp8",
]
OURS = [
    "baseline",
    "library-default",
    "flash-attention-2",
    "torch-compile",
    *("torch-compile-max-autotune", "static-cache", "cudnn-attention", "flash-attn", "continuous-batching"),
    "torch-compile-wrapper",
    *("vllm", "sglang"),
    *("resident", "resident-int8", "resident-fp8"),
    *("prompt-lookup", "assistant", "vllm-ngram", "vllm-draft"),
    *QUANTISED,
    "openvino",
    "openvino-int8",
    "openvino-int4",
    "onnxruntime",
    "onnxruntime-int4",
    *("llamacpp", "llamacpp-q8", "llamacpp-q4", "ctranslate2", "ctranslate2-int8"),
    *("vllm-server", "llamacpp-server", "sglang-server", "tensorrt-llm"),
    "article-none",
    "article-torch-compile",
    "article-flash-attention-1",
    "article-flash-attention-1-compile",
    "article-none-torch-2.2",
    "article-flash-attention-2",
    "article-vllm",
]
ON_THE_CPU = ("onnxruntime", "openvino")
ON_A_GPU = ("resident", "resident-int8", "resident-fp8", "sglang", "sglang-server", "tensorrt-llm")
GOOD = """
[methods.mine]
summary = "Mine."
engine = "transformers"
reference = "baseline"
differs = "Everything."
environments = { cpu = "torch" }
must_show = { cache = "static" }
"""


def with_file(folder: Path, text: str) -> Catalogue:
    (folder / "methods").mkdir(exist_ok=True)
    (folder / "methods" / "mine.toml").write_text(textwrap.dedent(text))
    return load_catalogue(folder)


def test_our_methods_are_listed_and_sound(tmp_path: Path) -> None:
    catalogue = load_catalogue(tmp_path)

    assert list(catalogue.methods) == OURS
    assert catalogue.problems == ()
    for method in catalogue.methods.values():
        assert method.summary
        assert method.must_show
        assert method.differs
        devices = {"cuda"} if method.name in ON_A_GPU else {"cpu"} if method.engine in ON_THE_CPU else {"cuda", "cpu"}
        assert set(method.environments) == devices


def test_the_wrapper_differs_from_the_baseline_in_the_wrapper_alone(tmp_path: Path) -> None:
    methods = load_catalogue(tmp_path).methods
    baseline, wrapper = methods["baseline"], methods["torch-compile-wrapper"]

    assert wrapper.reference == "baseline"
    assert wrapper.options == {**baseline.options, "compile": "wrapper"}
    assert wrapper.engine == baseline.engine
    assert wrapper.environments == baseline.environments


def test_the_library_default_sets_nothing(tmp_path: Path) -> None:
    assert load_catalogue(tmp_path).methods["library-default"].options == {}


def test_what_is_quantised_differs_from_its_reference_in_that_alone(tmp_path: Path) -> None:
    methods = load_catalogue(tmp_path).methods
    for name in QUANTISED:
        method = methods[name]
        reference = methods[method.reference or ""]
        more = {key: value for key, value in method.options.items() if reference.options.get(key) != value}
        assert set(more) <= {"quantise", "quantised_cache", "engine_arguments"}, name
        assert method.presets == ("quantised",)
        assert "quantised" in reference.presets


def test_a_users_method_is_added(tmp_path: Path) -> None:
    catalogue = with_file(tmp_path, GOOD)

    assert catalogue.problems == ()
    assert list(catalogue.methods) == [*OURS, "mine"]
    assert catalogue.files["mine"] == tmp_path / "methods" / "mine.toml"


def test_a_users_engine_file_is_taken(tmp_path: Path) -> None:
    engine = tmp_path / "engine.py"
    engine.touch()

    assert with_file(tmp_path, GOOD.replace('"transformers"', f'"{engine}"')).methods["mine"].engine == str(engine)


def test_an_engine_file_may_lie_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.py").touch()

    method = with_file(tmp_path, GOOD.replace('"transformers"', '"./mine.py"')).methods["mine"]

    assert method.engine == str(tmp_path / "methods" / "mine.py")


def test_the_articles_recipes_differ_in_what_they_say_alone(tmp_path: Path) -> None:
    methods = load_catalogue(tmp_path).methods
    none, flash = methods["article-none"], methods["article-flash-attention-1"]

    assert methods["article-torch-compile"].options == {**none.options, "compile": "wrapper"}
    assert flash.options == {**none.options, "bettertransformer": True, "sdpa_backends": ["flash"]}
    assert methods["article-flash-attention-1-compile"].options == {**flash.options, "compile": "wrapper"}
    assert methods["article-none-torch-2.2"].options == none.options
    assert methods["article-flash-attention-2"].options == flash.options


def test_the_preset_of_engines_takes_one_method_an_engine_beside_the_reference(tmp_path: Path) -> None:
    methods = load_catalogue(tmp_path).methods
    engines = [method.engine for method in methods.values() if "engines" in method.presets]

    assert methods["baseline"].presets.count("engines") == 1
    assert {engine for engine in engines if engines.count(engine) > 1} == {"transformers"}
    assert set(engines) == {method.engine for method in methods.values()} - {"server"}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("static-cache", {"cache"}),
        ("torch-compile-max-autotune", {"compile_options"}),
        ("cudnn-attention", {"attn_implementation", "sdpa_backends"}),
        ("flash-attn", {"attn_implementation"}),
        ("continuous-batching", {"batching"}),
        ("prompt-lookup", {"speculation"}),
        ("assistant", {"speculation"}),
        ("vllm-ngram", {"speculation"}),
        ("vllm-draft", {"speculation"}),
    ],
)
def test_a_row_of_todays_stack_differs_in_what_it_says_alone_and_is_in_no_preset(
    tmp_path: Path, name: str, more: set[str]
) -> None:
    methods = load_catalogue(tmp_path).methods
    method = methods[name]
    reference = methods[method.reference or ""]

    assert {key for key, value in method.options.items() if reference.options.get(key) != value} == more
    assert method.environments == reference.environments
    assert method.presets == (("load", "inferencex") if name == "continuous-batching" else ())  # made for these


def test_methods_are_listed_group_by_group_in_the_catalogues_order(tmp_path: Path) -> None:
    catalogue = with_file(tmp_path, GOOD)
    listed = [each.method for each in choices(catalogue, DeviceFacts("cpu"), tmp_path, tmp_path)]
    groups = [name for name, _ in groupby(method.group for method in listed)]

    assert groups == ["transformers", "engines", "speculative", "quantised", "servers", "article", "others"]
    assert [each.name for each in listed if each.group == "article"] == [name for name in OURS if "article" in name]


def test_every_environment_that_a_method_names_is_described(tmp_path: Path) -> None:
    named = {name for method in load_catalogue(tmp_path).methods.values() for name in method.environments.values()}
    converting = {each.environment for each in CONVERSIONS.values() if each.environment is not None}

    assert named | converting == set(load_specs(tmp_path).by_name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[methods.mine\n", "not valid TOML"),
        ("title = 'x'" + GOOD, "'title' is not known at the top"),
        ("methods = 3", "'methods' must hold one table per method"),
        ("methods.mine = 3", "must be a table [methods.mine]"),
        (GOOD + "enviroment = 'x'", "did you mean 'environments'"),
        (GOOD + "zzz = 'x'", "'zzz' is not known; it can have summary"),
        (GOOD.replace("summary", "origin"), "'summary' is missing"),
        (GOOD.replace('"Mine."', "3"), "'summary' must be a string"),
        (GOOD.replace('"Mine."', '" "'), "'summary' must be a string"),
        (GOOD.replace("[methods.mine]", "[methods.'Mine one']"), "a name is up to 64 of"),
        (GOOD.replace("[methods.mine]", "[methods.baseline]"), "the name is already taken by"),
        (
            GOOD.replace('"transformers"', '"transformer"'),
            "unknown engine 'transformer'; choose ctranslate2, llamacpp, onnxruntime, openvino, resident, server,"
            " sglang, transformers, vllm",
        ),
        (GOOD.replace('"transformers"', '"mine.py"'), "must be an absolute path"),
        (GOOD.replace('"transformers"', '"/no/such.py"'), "no such engine file: /no/such.py"),
        (GOOD.replace('"baseline"', '"basline"'), "did you mean 'baseline'"),
        (GOOD.replace('"baseline"', '"mine"'), "form a cycle, mine → mine"),
        (GOOD.replace("differs", "origin"), "needs 'differs'"),
        (GOOD.replace('cpu = "torch"', 'tpu = "torch"'), "environments: 'tpu' is not known"),
        (GOOD.replace('{ cpu = "torch" }', "{}"), "'environments' is missing"),
        (GOOD.replace('cache = "static"', 'cash = "static"'), "must_show: 'cash' is not known; did you mean 'cache'"),
        (GOOD.replace('cache = "static"', "cache = 1"), "must_show: 'cache' must be a name"),
        (GOOD.replace('cache = "static"', "why_not = { cache = 'x' }"), "why_not: 'cache' is not known"),
        (GOOD + "needs = { devices = ['npu'] }", "unknown device 'npu'"),
        (GOOD + "needs = { max_compute_capability = 'new' }", "'max_compute_capability' must be a string such as"),
        (GOOD.replace('cache = "static"', "cuda = 1"), "'cuda' must be a table"),
        (GOOD.replace('cache = "static"', "cuda = { cash = 1 }"), "must_show: cuda: 'cash' is not known"),
        (GOOD.replace('cache = "static"', "cuda = { cuda = {} }"), "must_show: cuda: 'cuda' is not known"),
        (GOOD.replace('"transformers"', '"./mine.py"'), "no such engine file"),
        (GOOD + "needs = { min_driver = 'new' }", "'min_driver' must be a version"),
        (GOOD + "needs = { min_compute_capability = '9' }", "'min_compute_capability' must be a string such as"),
        (GOOD + "needs = { compiler = 'gcc' }", "'compiler' must be true or false"),
        (GOOD + "needs = { free_bytes = -1 }", "'free_bytes' must be a whole number"),
        (GOOD + "needs = 3", "'needs' must be a table"),
        (GOOD + "presets = 'quick'", "'presets' must be a list of strings"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_ours_still_work(tmp_path: Path, text: str, says: str) -> None:
    catalogue = with_file(tmp_path, text)

    assert [problem for problem in catalogue.problems if says in problem], catalogue.problems
    assert all("mine.toml" in problem and "\n" not in problem for problem in catalogue.problems)
    assert list(catalogue.methods)[: len(OURS)] == OURS


def test_methods_that_hang_on_a_broken_reference_go_with_it(tmp_path: Path) -> None:
    second = GOOD.replace("[methods.mine]", "[methods.second]").replace('"baseline"', '"mine"')
    third = GOOD.replace("[methods.mine]", "[methods.third]").replace('"baseline"', '"second"')
    catalogue = with_file(tmp_path, GOOD.replace('"baseline"', '"nothing"') + second + third)

    assert list(catalogue.methods) == OURS
    assert len(catalogue.problems) == 3


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "methods" / "mine.toml").mkdir(parents=True)
    (tmp_path / "methods" / "other.toml").write_bytes(b"\xff\xfe")

    catalogue = load_catalogue(tmp_path)

    assert list(catalogue.methods) == OURS
    assert ["cannot be read" in catalogue.problems[0], "not valid TOML" in catalogue.problems[1]] == [True, True]


def test_nearest_names_what_may_have_been_meant() -> None:
    assert nearest("flash", OURS)[:2] == ["flash-attn", "flash-attention-2"]
    assert nearest("Base-line", OURS)[0] == "baseline"
    assert nearest("torch-compil", OURS)[:2] == ["torch-compile", "torch-compile-wrapper"]
    assert nearest("qqqq", OURS) == []


def test_the_page_on_adding_a_method_is_true(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "adding-a-method.md").read_text()
    example = page.partition("```toml\n")[2].partition("```")[0]

    catalogue = with_file(tmp_path, example)

    assert catalogue.problems == ()
    assert "static-cache-sdpa" in catalogue.methods
    assert [condition for condition in CONDITIONS if f"`{condition}" not in page] == []


def test_listing_imports_nothing_heavy() -> None:
    script = """
import sys
from pathlib import Path
from methods.catalogue.catalogue import load_catalogue
load_catalogue(Path("/nowhere"))
heavy = {"torch", "numpy", "tokenizers", "huggingface_hub", "jinja2", "safetensors", "polars", "textual"}
sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=60)

    assert answer.returncode == 0, answer.stderr.decode()


def test_servers_are_started_on_loopback_with_a_key_that_is_no_argument(tmp_path: Path) -> None:
    servers = [method for method in load_catalogue(tmp_path).methods.values() if method.engine == "server"]
    assert len(servers) == 4
    for method in servers:
        command = method.options["command"]
        assert isinstance(command, list)
        assert command[command.index("--host") + 1] == "{host}"
        assert command[command.index("--port") + 1] == "{port}"
        assert not [word for word in command if "key" in word]
        keyed = "key_variable" in method.options or "{key}" in str(method.options["file_form"])
        assert keyed == (method.name != "tensorrt-llm"), "TensorRT-LLM's server knows no key"


def test_a_program_that_is_not_there_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = Interpreter("mine", tmp_path / "bin" / "python", (), {}, "configured", {})
    method = Method(name="m", engine="server", program="a-server", program_from="install it from its makers")
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))

    assert with_program(method, interpreter) == Unavailable(
        "There is no a-server in the environment mine or on the PATH: install it from its makers.", ""
    )
    for folder in ("elsewhere", "bin"):
        program = tmp_path / folder / "a-server"
        program.parent.mkdir()
        program.touch(mode=0o755)
        assert with_program(method, interpreter) is interpreter
        program.unlink()
    assert with_program(Method(name="m", engine="server"), interpreter) is interpreter
