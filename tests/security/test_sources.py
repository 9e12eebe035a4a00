"""What our sources may not do at all, read from their syntax trees: unpickle, evaluate text, start a shell."""

from __future__ import annotations

import ast
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from methods.catalogue.catalogue import load_catalogue
from methods.models import hub
from methods.models.safetensors_folder import WeightsError, weight_files
from methods.models.sources import ModelError, OnHub
from tests.sessions.workplace import Workplace, make_model

ROOT = Path(__file__).parents[2]
ROOMS = ("tui", "sessions", "probes", "methods", "benchmarks")
UNPICKLERS = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "yaml"}
EVALUATORS = {"eval", "exec", "compile", "__import__"}
SHELLS = {
    ("os", "system"), ("os", "popen"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput"),
    ("asyncio", "create_subprocess_shell"), ("commands", "getoutput"), ("popen2", "popen2"),
}  # fmt: skip
SHELL_PROGRAMS = {"sh", "bash", "dash", "zsh", "/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash", "cmd", "cmd.exe"}
LOADERS = {("torch", "load"), ("numpy", "load"), ("np", "load"), ("pd", "read_pickle"), ("pl", "read_ipc")}


def sources(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def faults(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) of everything that is forbidden."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.partition(".")[0] in UNPICKLERS:
                    yield node.lineno, f"imports {name.name}"
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in UNPICKLERS:
                yield node.lineno, f"imports from {node.module}"
            for name in node.names:
                if ((node.module or ""), name.name) in SHELLS | LOADERS:
                    yield node.lineno, f"imports {node.module}.{name.name}"
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, said) for said in call_faults(node))


def call_faults(call: ast.Call) -> Iterator[str]:
    function = call.func
    if isinstance(function, ast.Name) and function.id in EVALUATORS:
        yield f"calls {function.id}"
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        called = (function.value.id, function.attr)
        if called in SHELLS:
            yield f"calls {'.'.join(called)}"
        safe = [each for each in call.keywords if each.arg in ("weights_only", "allow_pickle")]
        if called in LOADERS and not safe:
            yield f"calls {'.'.join(called)} without saying that nothing is unpickled"
    for keyword in call.keywords:
        value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
        if keyword.arg == "shell" and value is not False:
            yield "passes shell="
        if keyword.arg == "allow_pickle" and value is not False:
            yield "passes allow_pickle="
        if keyword.arg == "weights_only" and value is not True:
            yield "passes weights_only="
        if keyword.arg == "trust_remote_code" and value is True:
            yield "passes trust_remote_code=True"
        if keyword.arg == "use_safetensors" and value is not True:
            yield "passes use_safetensors="
    for argument in call.args[:1]:
        if isinstance(argument, ast.List | ast.Tuple) and argument.elts:
            first = argument.elts[0]
            if isinstance(first, ast.Constant) and first.value in SHELL_PROGRAMS:
                yield f"starts the shell {first.value}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_source_unpickles_evaluates_and_shells_nothing(room: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {said}"
        for path in sources(room)
        for line, said in faults(ast.parse(path.read_bytes()))
    ]
    assert not found, "\n".join(found)


def test_there_are_sources_to_look_at() -> None:
    assert all(sources(room) for room in ROOMS)
    names = {path.name for path in sources(*ROOMS)}
    assert {"kasoku_vllm.py", "conductor.py", "app.py", "sampler.py", "hub.py"} <= names


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import os, marshal",
        "from pickle import loads",
        "from os import system",
        "import os\nos.system('x')",
        "import os\nos.popen('x')",
        "subprocess.run('x', shell=True)",
        "subprocess.Popen('x', shell=flag)",
        "subprocess.run(['sh', '-c', 'x'])",
        "eval('1')",
        "exec('1')",
        "torch.load('x')",
        "torch.load('x', weights_only=False)",
        "numpy.load('x', allow_pickle=True)",
        "model.from_pretrained('x', trust_remote_code=True)",
        "model.from_pretrained('x', use_safetensors=False)",
    ],
)
def test_each_of_them_would_be_found(text: str) -> None:
    assert list(faults(ast.parse(text)))


@pytest.mark.parametrize("text", ["import ast", "torch.load('x', weights_only=True)", "run(['x'], shell=False)"])
def test_what_is_harmless_is_let_be(text: str) -> None:
    assert not list(faults(ast.parse(text)))


def test_every_engine_that_loads_weights_asks_for_safetensors() -> None:
    """transformers (also below `resident`), vLLM and SGLang fall back to pickled weights unless told not to; the others
    read what a conversion has made of safetensors, and so does a server. TensorRT-LLM takes safetensors where there are
    any, which is always.
    """
    said = {"kasoku_transformers": ("use_safetensors", True), "kasoku_vllm": ("load_format", "safetensors")}
    said["kasoku_sglang"], said["kasoku_resident"] = said["kasoku_vllm"], said["kasoku_transformers"]
    for path in (ROOT / "methods" / "runner" / "kasoku_engines").glob("kasoku_*.py"):
        tree = ast.parse(path.read_bytes())
        if path.stem == "kasoku_server":
            for method in load_catalogue(Path("/nowhere")).methods.values():
                if method.engine == "server" and method.name != "tensorrt-llm":
                    command = " ".join(method.options["command"])  # type: ignore[arg-type]
                    assert "--load-format safetensors" in command or "{converted_file}" in command, method.name
            continue
        if path.stem not in said:
            called = {
                node.func.id
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert "converted_folder" in called, path
            continue
        pairs = {
            (key.value, value.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Dict)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
        }
        assert said[path.stem] in pairs, path


# Sockets

CLIENT = ROOT / "methods" / "runner" / "kasoku_http.py"  # connects
BUCKET = ROOT / "sessions" / "published" / "bucket.py"  # connects, to a team's store
SERVER = ROOT / "tui" / "browser" / "server.py"  # the one that listens
CLUSTER = ROOT / "sessions" / "hosts" / "ray_cluster.py"  # the one that knows Ray, which connects, and unpickles
NETWORKED = {
    "_socket", "aiohttp", "boto3", "botocore", "ftplib", "http", "httplib2", "httpx", "grpc", "imaplib", "nntplib",
    "obstore", "poplib", "ray", "requests", "smtplib", "socketserver", "ssl", "telnetlib", "urllib3", "websockets",
    "xmlrpc",
}  # fmt: skip
OPENING = {"urllib.request", "textual_serve.server"}  # of packages that otherwise open none
STREAMS = {
    "open_connection", "open_unix_connection", "start_server", "start_unix_server", "create_connection",
    "create_server", "create_unix_server",
}  # fmt: skip
NO_SOCKET = {"gethostname"}  # of the module socket


def openers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what it is) of everything that opens a socket, or can."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.partition(".")[0] in NETWORKED or name.name in OPENING:
                    yield node.lineno, f"imports {name.name}"
        elif isinstance(node, ast.ImportFrom):
            module, names = node.module or "", {name.name for name in node.names}
            whole = {module, *(f"{module}.{name}" for name in names)}
            if module.partition(".")[0] in NETWORKED or whole & OPENING:
                yield node.lineno, f"imports from {module}"
            if (module == "socket" and names - NO_SOCKET) or (module == "asyncio" and names & STREAMS):
                yield node.lineno, f"imports from {module}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            opens = node.value.id == "socket" and node.attr not in NO_SOCKET
            if opens or (node.value.id in ("asyncio", "loop") and node.attr in STREAMS):
                yield node.lineno, f"uses {node.value.id}.{node.attr}"


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "benchmarks"])
def test_no_source_but_four_opens_a_socket(room: str) -> None:
    found = {path: list(openers(ast.parse(path.read_bytes()))) for path in sources(room)}
    assert {path for path, said in found.items() if said} == {CLIENT, BUCKET, CLUSTER, SERVER} & set(found), found


@pytest.mark.parametrize(
    "text",
    [
        "import http.client",
        "from http import server",
        "import urllib.request",
        "from urllib import request",
        "from urllib.request import urlopen",
        "import socket\nsocket.create_connection(('host', 80))",
        "import socket\nsocket.socket()",
        "from socket import socket",
        "import requests",
        "import asyncio\nasyncio.open_connection('host', 80)",
        "loop.create_server(object, '0.0.0.0', 80)",
        "from aiohttp import web",
        "import textual_serve.server",
        "from textual_serve import server",
        "from textual_serve.server import Server",
        "import ssl",
        "import ray",
        "from ray.util import client",
    ],
)
def test_each_way_to_a_socket_would_be_found(text: str) -> None:
    assert list(openers(ast.parse(text)))


def test_only_its_command_has_the_module_that_listens() -> None:
    importing = {path for room in ROOMS for path in sources(room) if "browser.server" in path.read_text()}
    assert importing == {ROOT / "tui" / "commands" / "serve.py"}


PICKLED = {"pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "weights.pkl"}


@pytest.mark.parametrize("name", sorted(PICKLED))
def test_pickled_weights_are_refused_and_never_opened(work: Workplace, tmp_path: Path, name: str) -> None:
    """A pickle that would make a file when it is loaded, as torch writes it: a zip with data.pkl, and bare."""
    trap = tmp_path / "sprung"
    for bare in (False, True):
        model = make_model(tmp_path / f"model-{bare}")
        (model / "model.safetensors").unlink()
        pickled = b"cposix\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR."
        if bare:
            (model / name).write_bytes(pickled)
        else:
            with zipfile.ZipFile(model / name, "w") as archive:
                archive.writestr("archive/data.pkl", pickled)
        work.method("one")
        said = work.command(*work.options("one", model=model))
        assert said.code == 2
        assert "only pickled weights, which can run code when they are loaded and are never loaded here" in said.err
        assert work.sessions() == []
    assert not trap.exists()


def test_the_trap_would_spring(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    pickle.loads(b"cposix\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR.")  # noqa: S301 - our own
    assert trap.exists()


def test_pickled_weights_beside_safetensors_are_not_what_is_loaded(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    (model / "pytorch_model.bin").write_bytes(b"rubbish")
    assert [path.name for path in weight_files(model)] == ["model.safetensors"]


def test_a_repositorys_pickles_and_code_are_not_among_what_is_fetched() -> None:
    source = OnHub("org/name", "main")
    sizes: dict[str, int | None] = dict.fromkeys(
        ["config.json", "model.safetensors", "tokenizer.json", "modeling_evil.py", *PICKLED], 1
    )
    listing = hub.Listing(source, "0" * 40, sizes, False)
    fetched = {*hub.weight_names(listing), *hub.small_names(listing)}
    assert fetched == {"config.json", "model.safetensors", "tokenizer.json"}
    only_pickles = hub.Listing(source, "0" * 40, {"config.json": 1, "pytorch_model.bin": 1}, False)
    with pytest.raises((ModelError, WeightsError), match="only pickled weights"):
        hub.weight_names(only_pickles)
