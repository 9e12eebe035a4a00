"""What the tests of several engines share."""

from __future__ import annotations

from pathlib import Path

import pytest

from methods.base import file_lock
from methods.base.home import private_folder
from methods.base.interpreter import Interpreter
from methods.base.progress import silent
from methods.environments import environments
from methods.models.converted import Converting
from tests.conftest import told

LLAMA_SERVER = Path(__file__).with_name("llama_server.py")
ITS_ENVIRONMENT = """
[llama-server]
purpose = "llama.cpp's server."
python = ">=3.10"
requirements = ["xllamacpp==2026.10.11549"]
imports = ["xllamacpp"]
"""


@pytest.fixture(scope="module")
def converting(torch_interpreter: Interpreter, assets: Path) -> Converting:
    """Makes and checks a model's other forms for real; they are kept among the assets."""
    return Converting(
        home=assets,
        dtype="bfloat16",
        device="cpu",
        gpu_uuids=(),
        threads=2,
        variables={},
        interpreter_of=lambda name: torch_interpreter,
        report=silent,
    )


@pytest.fixture(scope="module")
def llama_server(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `llama-server` in it: llama.cpp's own server, from a wheel that has it as a library, and
    llama_server.py in place of the program around it."""
    config = tmp_path_factory.mktemp("config")
    (private_folder(config / "environments") / "llama-server.toml").write_text(ITS_ENVIRONMENT)
    with file_lock.held(assets / ".lock", "tests", told):
        try:
            python = environments.create("llama-server", assets, config, report=told).python
        except environments.CreationError as error:
            pytest.skip(f"the environment of llama.cpp's server cannot be created here: {error}")
    found = tmp_path_factory.mktemp("bin") / "llama-server"
    found.write_text(f'#!/bin/sh\nexec {python} {LLAMA_SERVER} "$@"\n')
    found.chmod(0o700)
    return found.parent
