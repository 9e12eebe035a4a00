"""A quantised model and the environments that cannot load it: told before a runner is started."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from methods.base.home import private_folder
from tests.sessions.workplace import Workplace, make_model, runs_of


def be_an_environment_with(work: Workplace, folder: Path, **versions: str) -> None:
    """The environment `stand-in`: this Python, in which these distributions seem to be installed."""
    for name, version in versions.items():
        metadata = private_folder(private_folder(folder) / f"{name}-{version}.dist-info") / "METADATA"
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    table = f"[stand-in]\npython = {json.dumps(sys.executable)}\npaths = [{json.dumps(str(folder))}]\n"
    (private_folder(work.config / "environments") / "stand-in.toml").write_text(table)


def test_what_the_environment_lacks_is_the_methods_row_and_no_runner_starts(work: Workplace, tmp_path: Path) -> None:
    be_an_environment_with(work, tmp_path / "packages", transformers="5.24.0", accelerate="1.0", optimum="1.0")
    work.method("scripted")
    (work.config / "methods" / "real.toml").write_text(
        '[methods.real]\nsummary = "transformers"\nengine = "transformers"\n'
        'environments = { cpu = "stand-in" }\nmust_show = { cache = "dynamic" }\n'
    )
    quantised = make_model(tmp_path / "q", quantization_config={"quant_method": "gptq", "bits": 4})
    folder = work.run("scripted", "real", model=str(quantised))
    rows = {row["method"]: row for row in runs_of(folder)}
    assert rows["real"]["status"] == "unavailable"
    assert "(GPTQ), and the environment stand-in lacks gptqmodel; point it at" in rows["real"]["error"]
    assert not folder.log("real", 0).exists()
    assert rows["scripted"]["status"] == "ok", "an engine of the user's own may know how"
