"""Conversions: made once, checked before they are kept, nothing half made. The jobs of runners are played here."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from methods.base import whole_folder
from methods.base.home import CACHE
from methods.base.interpreter import Interpreter, Unavailable
from methods.base.progress import Progress, Report, silent
from methods.jobs.runner_job import JobError
from methods.models import converted
from methods.models.conversions import CONVERSIONS
from methods.models.converted import ConversionError, Converting, Reader
from methods.models.model import Model
from tests.methods.runner_module import runner_module


def interpreter(environment: str, prefix: Path, versions: Mapping[str, str] | None = None) -> Interpreter:
    """One that is never started."""
    return Interpreter(environment, prefix / "bin" / "python", (), {}, "managed", versions or {})


class Runners:
    """Plays the runners' jobs, and keeps what was asked of them."""

    def __init__(self) -> None:
        self.jobs: list[Mapping[str, object]] = []
        self.unexplained: object = 0.001
        self.fault: Exception | None = None

    def run_job(self, python: Interpreter, job: Mapping[str, object], log: Path, report: Report) -> dict[str, object]:
        self.jobs.append({**job, "environment": python.environment, "paths": python.paths})
        report(Progress(str(job["job"]), "at work"))
        if job["job"] == "forced":
            return {} if job.get("keep") else {"unexplained": self.unexplained}
        Path(str(job["folder"]), "model.gguf").write_bytes(b"half")
        report(Progress(str(job["job"]), "at work"))
        if self.fault is not None:
            raise self.fault
        Path(str(job["folder"]), "model.gguf").write_bytes(b"whole")
        return {"type": "as asked"}


@pytest.fixture
def runners(monkeypatch: pytest.MonkeyPatch) -> Runners:
    played = Runners()
    monkeypatch.setattr(converted, "run_job", played.run_job)
    return played


@pytest.fixture
def model(tmp_path: Path) -> Model:
    folder = tmp_path / "a model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return Model(
        name="org/a model",
        source="org/a model@1",
        folder=folder,
        weights_digest="ab" * 32,
        parameters=1_000_000,
        weights_bytes=2_000_000,
        dtype="bfloat16",
        vocab_size=100,
    )


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    site = tmp_path / "engine" / "lib" / "python3.11" / "site-packages"
    for package in ("conversion", "gguf", "numpy"):
        (site / package).mkdir(parents=True)
    found = interpreter("llamacpp-cpu", tmp_path / "engine", {"llama-cpp-python": "0.3.36"})
    return Reader(engine="llamacpp", options={}, interpreter=found)


def converting(home: Path, report: Report = silent, **changes: object) -> Converting:
    given: dict[str, object] = {
        "home": home,
        "dtype": "bfloat16",
        "device": "cpu",
        "gpu_uuids": (),
        "threads": 2,
        "variables": {"OMP_NUM_THREADS": "2"},
        "interpreter_of": lambda name: interpreter(name, home / "nowhere"),
        "report": report,
    }
    return Converting(**{**given, **changes})  # type: ignore[arg-type]


def left(home: Path) -> list[str]:
    """What lies where conversions are kept, but for their locks."""
    root = home / CACHE / "converted"
    return sorted(path.name for path in root.iterdir() if not path.name.startswith(".lock-"))


def test_a_model_is_converted_once_and_checked(tmp_path: Path, runners: Runners, model: Model, reader: Reader) -> None:
    made = converting(tmp_path / "home").converted(model, "gguf", reader)

    assert (made / "model.gguf").read_bytes() == b"whole"
    assert [(job["job"], job["environment"]) for job in runners.jobs] == [
        ("to-gguf", "torch"),
        ("forced", "torch"),
        ("forced", "llamacpp-cpu"),
    ]
    assert runners.jobs[1]["ids"] == runners.jobs[2]["ids"]
    said = json.loads((made / "kasoku-conversion.json").read_text())
    assert said["checked"]["unexplained"] == 0.001
    assert sorted(path.name for path in made.iterdir()) == ["kasoku-conversion.json", "model.gguf"]

    assert converting(tmp_path / "home").converted(model, "gguf", reader) == made
    assert len(runners.jobs) == 3


def test_a_model_that_drafts_is_made_once_and_not_held_to_the_one_it_drafts_for(
    tmp_path: Path, runners: Runners, model: Model, reader: Reader
) -> None:
    made = converting(tmp_path / "home").converted(model, "first-layers", reader)

    assert [(job["job"], job["environment"]) for job in runners.jobs] == [("to-first-layers", "torch")]
    assert runners.jobs[0]["share"] == 0.25
    assert json.loads((made / "kasoku-conversion.json").read_text())["checked"] == {}
    assert converting(tmp_path / "home").converted(model, "first-layers", reader) == made
    assert len(runners.jobs) == 1


def test_the_converter_is_lent_its_packages_and_no_others(
    tmp_path: Path, runners: Runners, model: Model, reader: Reader
) -> None:
    lent: list[str] = []

    def look(progress: Progress) -> None:
        if runners.jobs and runners.jobs[-1]["job"] == "to-gguf":
            lent.extend(path.name for path in Path(str(runners.jobs[-1]["paths"][0])).iterdir())  # type: ignore[index]

    converting(tmp_path / "home", look).converted(model, "gguf", reader)
    assert set(lent) == {"conversion", "gguf"}


def test_one_that_starts_from_another_makes_that_too(
    tmp_path: Path, runners: Runners, model: Model, reader: Reader
) -> None:
    made = converting(tmp_path / "home").converted(model, "gguf-q8", reader)

    assert len(left(tmp_path / "home")) == 2
    quantised = next(job for job in runners.jobs if job["job"] == "quantise-gguf")
    assert quantised["environment"] == "llamacpp-cpu"
    assert quantised["types"] == ["Q8_0"]
    assert Path(str(quantised["source"])) != made


def test_what_decides_what_is_made_is_part_of_the_key(
    tmp_path: Path, runners: Runners, model: Model, reader: Reader
) -> None:
    first = converting(tmp_path / "home").converted(model, "gguf", reader)

    assert converting(tmp_path / "home", dtype="float16").converted(model, "gguf", reader) != first
    assert converting(tmp_path / "home", threads=1).converted(model, "gguf", reader) == first


def test_another_config_or_another_converter_makes_it_anew(
    tmp_path: Path, runners: Runners, model: Model, reader: Reader
) -> None:
    made = {converting(tmp_path / "home").converted(model, "gguf", reader)}
    newer = Interpreter("llamacpp-cpu", reader.interpreter.python, (), {}, "managed", {"llama-cpp-python": "0.3.37"})
    made.add(
        converting(tmp_path / "home").converted(model, "gguf", Reader(engine="llamacpp", options={}, interpreter=newer))
    )
    (model.folder / "config.json").write_text('{"rope_theta": 1}')
    made.add(converting(tmp_path / "home").converted(model, "gguf", reader))

    assert len(made) == 3


def test_a_file_that_has_changed_since_is_made_again(
    tmp_path: Path, runners: Runners, model: Model, reader: Reader
) -> None:
    made = converting(tmp_path / "home").converted(model, "gguf", reader)
    (made / "model.gguf").write_bytes(b"cut")

    assert converting(tmp_path / "home").converted(model, "gguf", reader) == made
    assert (made / "model.gguf").read_bytes() == b"whole"


@pytest.mark.parametrize("unexplained", [0.3, None, float("nan"), "nothing"])
def test_what_computes_something_else_is_thrown_away(
    tmp_path: Path, runners: Runners, model: Model, reader: Reader, unexplained: object
) -> None:
    runners.unexplained = unexplained

    with pytest.raises(ConversionError, match="its logits are not the model's"):
        converting(tmp_path / "home").converted(model, "gguf", reader)
    assert left(tmp_path / "home") == []


class StoppedError(Exception):
    """The conductor lets go."""


@pytest.mark.parametrize(
    ("fault", "raised", "said"),
    [
        (StoppedError("stopped"), StoppedError, "stopped"),
        (JobError("OSError: [Errno 28] No space left on device"), ConversionError, "No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), ConversionError, "no space left on device"),
    ],
)
def test_one_that_stops_half_way_leaves_nothing(
    tmp_path: Path,
    runners: Runners,
    model: Model,
    reader: Reader,
    fault: Exception,
    raised: type[Exception],
    said: str,
) -> None:
    runners.fault = fault

    with pytest.raises(raised, match=said):
        converting(tmp_path / "home").converted(model, "gguf", reader)
    assert left(tmp_path / "home") == []

    runners.fault = None
    assert (converting(tmp_path / "home").converted(model, "gguf", reader) / "model.gguf").read_bytes() == b"whole"


def test_the_leftovers_of_one_that_was_killed_are_removed(
    tmp_path: Path, runners: Runners, model: Model, reader: Reader
) -> None:
    made = converting(tmp_path / "home").converted(model, "gguf", reader)
    made.rename(made.with_name(whole_folder.MAKING + made.name))

    assert converting(tmp_path / "home").converted(model, "gguf", reader) == made
    assert left(tmp_path / "home") == [made.name]


def test_what_cannot_be_converted_is_a_sentence(
    tmp_path: Path, runners: Runners, model: Model, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    without = converting(home, interpreter_of=lambda name: Unavailable(f"No {name} here.", f"kasoku env create {name}"))
    with pytest.raises(ConversionError, match=r"No torch here\. Fix: `kasoku env create torch`"):
        without.converted(model, "gguf", reader)

    nobody = Reader(engine="llamacpp", options={}, interpreter=interpreter("llamacpp-cpu", tmp_path / "none"))
    with pytest.raises(ConversionError, match="has no package conversion"):
        converting(home).converted(model, "gguf", nobody)

    packed = Model(**{**{name: getattr(model, name) for name in model.__slots__}, "quantisation": "gptq"})
    with pytest.raises(ConversionError, match=r"quantised \(GPTQ\), and only plain weights"):
        converting(home).converted(packed, "gguf", reader)

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(ConversionError, match="free some space"):
        converting(home).converted(model, "gguf", reader)
    assert left(home) == []


def test_progress_says_how_much_is_written(tmp_path: Path, runners: Runners, model: Model, reader: Reader) -> None:
    said: list[Progress] = []
    converting(tmp_path / "home", said.append).converted(model, "gguf", reader)

    writing = [each for each in said if each.unit == "bytes"]
    assert [each.done for each in writing] == [0, 4]
    assert {each.total for each in writing} == {int(2_000_000 * CONVERSIONS["gguf"].size)}


def test_the_share_unexplained_tells_rounding_from_another_model() -> None:
    drawn = np.random.default_rng(1)
    theirs = drawn.normal(size=(16, 1000)) * 7 - 20  # log probabilities are logits less a number for each position
    forced = runner_module("kasoku_forced").unexplained

    assert forced(theirs, theirs + 3) == pytest.approx(0, abs=1e-12)
    assert forced(theirs, theirs + drawn.normal(size=theirs.shape) * 0.07) == pytest.approx(0.0001, rel=0.1)
    assert forced(theirs, drawn.permuted(theirs, axis=1)) == pytest.approx(2, rel=0.1)
    assert forced(theirs, np.full_like(theirs, np.nan)) is None
    assert forced(theirs, theirs[:, :-1]) is None
