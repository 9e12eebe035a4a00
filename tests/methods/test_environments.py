"""Environments: made with the real uv, found in milliseconds, and never taken for whole when they are not."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest

from methods.base import pip_settings, whole_folder
from methods.base.package_installer import PackageInstaller
from methods.base.progress import Progress
from methods.environments import environments, managed, torch_builds
from methods.environments.environments import CreationError, EnvironmentProblemError, Interpreter, Unavailable
from methods.environments.specs import described, load_specs

DEADLINE = 60
OWN = {"here": ">=3", "old": "<2"}
SMALL = '[small]\npurpose = "for tests"\nrequirements = ["iniconfig==2.1.0"]\nimports = ["iniconfig"]\n'
CREATE = "import sys; from pathlib import Path; from methods.environments import environments as e; "


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "environments.toml").write_text(SMALL)
    return folder


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def states(home: Path, config: Path, name: str = "small") -> list[str]:
    return [row.state for row in environments.listed(home, config) if row.name == name]


def creating(home: Path, config: Path) -> subprocess.Popen[bytes]:
    code = CREATE + "print(e.create('small', Path(sys.argv[1]), Path(sys.argv[2])).python)"
    command = [sys.executable, "-c", code, str(home), str(config)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])


def test_a_created_environment_runs_is_listed_and_is_found_again(tmp_path: Path, config: Path) -> None:
    before = environments.resolve("small", tmp_path, config)
    assert isinstance(before, Unavailable)
    assert before.remedy == "kasoku env create small"
    assert states(tmp_path, config) == ["absent"]

    heard: list[Progress] = []
    made = environments.create("small", tmp_path, config, report=heard.append)

    printed = subprocess.run(
        [made.python, "-I", "-c", "import iniconfig, sys; print(iniconfig.__file__, sys.prefix)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    module, prefix = printed.stdout.split()
    assert Path(module).is_relative_to(tmp_path / "environments")
    assert Path(prefix) == made.python.parent.parent
    assert made.versions["iniconfig"] == "2.1.0"
    assert any("iniconfig" in each.detail for each in heard)
    assert environments.resolve("small", tmp_path, config) == made
    (row,) = [row for row in environments.listed(tmp_path, config) if row.name == "small"]
    assert (row.state, row.versions) == ("ready", {"iniconfig": "2.1.0"})
    assert row.size_bytes is not None
    assert row.size_bytes > 10_000
    assert row.python_version == ".".join(map(str, sys.version_info[:3]))
    assert stat.S_IMODE(made.python.parent.parent.stat().st_mode) == 0o700
    assert environments.create("small", tmp_path, config, report=heard.append) == made


@pytest.mark.usefixtures("nothing_starts")
def test_resolving_takes_milliseconds_and_starts_nothing(config: Path, assets: Path) -> None:
    environments.resolve("torch", assets, config)  # the modules it needs are read once
    began = time.thread_time()
    found = environments.resolve("torch", assets, config)
    assert time.thread_time() - began < 0.05
    assert isinstance(found, Interpreter)
    assert found.versions["transformers"].startswith("5.")
    assert "torch" not in sys.modules


def test_an_interrupted_creation_leaves_nothing(tmp_path: Path, config: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.detail.startswith(("Resolved", "Installed", "Prepared")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environments.create("small", tmp_path, config, report=stop)
    assert isinstance(environments.resolve("small", tmp_path, config), Unavailable)
    assert whole_folder.leftovers(tmp_path / "environments") == []
    assert states(tmp_path, config) == ["absent"]


def test_a_creation_killed_outright_is_incomplete_and_the_next_one_mends_it(tmp_path: Path, config: Path) -> None:
    process = creating(tmp_path, config)
    until(lambda: any((each / "bin" / "python").exists() for each in whole_folder.leftovers(tmp_path / "environments")))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGKILL
    assert states(tmp_path, config) == ["absent", "incomplete"]
    assert isinstance(environments.resolve("small", tmp_path, config), Unavailable)

    environments.create("small", tmp_path, config)
    assert states(tmp_path, config) == ["ready"]
    assert whole_folder.leftovers(tmp_path / "environments") == []


def test_two_creations_at_once_make_one_environment(tmp_path: Path, config: Path) -> None:
    both = [creating(tmp_path, config), creating(tmp_path, config)]
    pythons = {process.communicate(timeout=DEADLINE)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(pythons) == 1
    assert states(tmp_path, config) == ["ready"]


def test_an_environment_whose_python_is_gone_is_broken_and_can_be_mended(tmp_path: Path, config: Path) -> None:
    made = environments.create("small", tmp_path, config)
    made.python.unlink()
    found = environments.resolve("small", tmp_path, config)
    assert isinstance(found, Unavailable)
    assert "is gone" in found.reason
    assert found.remedy == "kasoku env create small"
    assert states(tmp_path, config) == ["broken"]
    assert environments.create("small", tmp_path, config).python.exists()
    assert states(tmp_path, config) == ["ready"]


def test_an_environment_of_an_older_description_is_not_taken(tmp_path: Path, config: Path) -> None:
    environments.create("small", tmp_path, config)
    (config / "environments.toml").write_text(SMALL.replace("2.1.0", "2.3.0"))
    assert states(tmp_path, config) == ["outdated"]
    found = environments.resolve("small", tmp_path, config)
    own_has_it = isinstance(found, Interpreter)
    assert own_has_it or "older description" in found.reason  # type: ignore[union-attr]


def test_removing_deletes_what_was_made_and_says_when_there_is_nothing(tmp_path: Path, config: Path) -> None:
    made = environments.create("small", tmp_path, config)
    (tmp_path / "environments" / ".making-small-0123").mkdir()
    gone = environments.remove("small", tmp_path, config)
    assert len(gone) == 2
    assert not made.python.exists()
    assert states(tmp_path, config) == ["absent"]
    with pytest.raises(EnvironmentProblemError, match="There is no environment small to remove"):
        environments.remove("small", tmp_path, config)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('requirements = ["iniconfig==0.0.0.1"]', "iniconfig"),
        ('requirements = ["iniconfig==2.1.0"]\nimports = ["no_such_module"]', "no_such_module cannot be imported"),
        ('requirements = ["iniconfig ==="]', "could not install"),
        ('requirements = ["iniconfig==2.1.0"]\npython = "==2.6.*"', "found no Python"),
        ("requirements = []", "lists no requirements"),
    ],
)
def test_an_environment_that_cannot_be_made_is_a_sentence(tmp_path: Path, config: Path, table: str, said: str) -> None:
    (config / "environments.toml").write_text(f"[small]\n{table}\n")
    with pytest.raises(CreationError) as caught:
        environments.create("small", tmp_path, config)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert whole_folder.whole(tmp_path / "environments") == []
    assert whole_folder.leftovers(tmp_path / "environments") == []


def test_the_users_python_is_tried_written_down_and_taken_first(tmp_path: Path, config: Path) -> None:
    made = environments.create("small", tmp_path, config)
    extra = tmp_path / 'extra "quoted" ü'
    extra.mkdir()
    used = environments.use("small", made.python, tmp_path, config, paths=(str(extra),), variables={"A_B": 'x"\\y'})
    again = environments.resolve("small", tmp_path, config)
    assert used == again
    assert used.source == "configured"
    assert (used.paths, used.variables) == ((str(extra),), {"A_B": 'x"\\y'})
    assert used.versions["iniconfig"] == "2.1.0"
    written = config / "environments" / "small.toml"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    with pytest.raises(EnvironmentProblemError, match="env remove small"):
        environments.create("small", tmp_path, config)
    assert written in environments.remove("small", tmp_path, config)


def test_a_python_under_a_name_of_the_users_own_needs_no_description(tmp_path: Path, config: Path) -> None:
    environments.use("mine", Path(sys.executable), tmp_path, config)
    found = environments.resolve("mine", tmp_path, config)
    assert isinstance(found, Interpreter)
    assert found.python == Path(sys.executable)
    assert found.versions["pytest"] == pytest.__version__


def test_pointing_at_what_is_no_python_is_a_sentence(tmp_path: Path, config: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for python, said in (
        (tmp_path / "nowhere", "is not a file"),
        (tmp_path, "is not a file"),
        (plain, "is not an executable"),
        (Path("/bin/false"), "is not a working Python"),
        (Path(sys.executable), "cannot import"),
    ):
        (config / "environments.toml").write_text(SMALL.replace("imports = [", 'imports = ["gguf", '))
        with pytest.raises(EnvironmentProblemError, match=said) as caught:
            environments.use("small", python, tmp_path, config)
        assert "\n" not in str(caught.value)
    assert not (config / "environments").exists()


@pytest.mark.parametrize(
    ("python", "said"),
    [("/nowhere/python", "does not exist"), ("./python", "not an absolute path"), ("PLAIN", "cannot be executed")],
)
def test_a_configured_python_that_is_gone_is_a_sentence(tmp_path: Path, config: Path, python: str, said: str) -> None:
    (config / "environments").mkdir()
    (tmp_path / "plain").touch(0o600)
    python = python.replace("PLAIN", str(tmp_path / "plain"))
    (config / "environments" / "torch.toml").write_text(f'[torch]\npython = "{python}"\n')
    found = environments.resolve("torch", tmp_path, config)
    assert isinstance(found, Unavailable)
    assert said in found.reason
    assert states(tmp_path, config, "torch") == ["broken"]


def test_kasokus_own_python_is_taken_when_it_has_what_is_needed(tmp_path: Path, config: Path) -> None:
    tables = [f'[{name}]\nrequirements = ["jinja2{version}"]\nimports = ["jinja2"]\n' for name, version in OWN.items()]
    (config / "environments.toml").write_text("".join(tables))
    found = environments.resolve("here", tmp_path, config)
    assert isinstance(found, Interpreter)
    assert (found.source, found.python) == ("own", Path(sys.executable))
    assert found.versions["jinja2"].startswith("3.")
    missing = environments.resolve("old", tmp_path, config)
    assert isinstance(missing, Unavailable)
    assert "own Python has jinja2 3." in missing.reason


@pytest.mark.parametrize("way", ["PYTHONPATH", "user site"])
def test_what_a_runner_in_kasokus_own_python_would_not_find_is_not_its_own(tmp_path: Path, way: str) -> None:
    base = Path(getattr(sys, "_base_executable", "") or sys.executable)  # a virtual environment has no user site
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    folder = tmp_path / ("anywhere" if way == "PYTHONPATH" else f"user/lib/{version}/site-packages")
    (folder / "cluster_torch").mkdir(parents=True)
    (folder / "cluster_torch" / "__init__.py").touch()
    (tmp_path / "environments.toml").write_text(
        '[far]\nrequirements = ["cluster-torch"]\nimports = ["cluster_torch"]\n'
    )
    home = str(tmp_path / "home")
    needed = [path for path in sys.path if path.endswith("-packages")]
    code = (
        f"import sys; sys.path += {[str(Path(__file__).parents[2]), *needed]!r}\n"
        "from pathlib import Path; from methods.environments import environments as e\n"
        f"print(repr(e.resolve('far', Path({home!r}), Path({str(tmp_path)!r}))))"
    )
    given = {"PYTHONPATH": str(folder)} if way == "PYTHONPATH" else {"PYTHONUSERBASE": str(tmp_path / "user")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    found = subprocess.run([base, "-c", code], env=kept | given, capture_output=True, text=True, check=False)

    assert found.stdout.startswith("Unavailable"), found.stderr
    assert "where runners do not look" in found.stdout
    assert f"kasoku env use far {base} --path {folder}" in found.stdout
    used = environments.use("far", base, tmp_path / "home", tmp_path, paths=(str(folder),))
    assert used.paths == (str(folder),), "the command that it names helps"


def test_the_advice_on_broken_packages_fits_where_the_python_is_from() -> None:
    def advice(source: Literal["configured", "managed", "own"]) -> str:
        return Interpreter("torch", Path("/opt/python"), (), {}, source, {}).repair()

    assert advice("managed") == "remove it with `kasoku env remove` and create it again"
    assert advice("own") == "repair /opt/python, or make an environment with `kasoku env create torch`"
    assert "point to another with `kasoku env use torch PYTHON`" in advice("configured")


def test_broken_config_is_a_problem_said_and_the_rest_still_works(tmp_path: Path, config: Path) -> None:
    (config / "environments").mkdir()
    for name, content in {
        "a": "[torch\n",
        "b": '[torch]\npurpose = 3\n[x]\npython = "3.11"\n[y]\nbogus = 1\nrequirements = []\n',
        "c": '[torch]\npython = "three"\n["a b/c"]\nrequirements = []\n[z]\nrequirements = "a"\n',
        "d": 'top = 1\n[small.variables]\nA = "1"\n',
    }.items():
        (config / "environments" / f"{name}.toml").write_text(content)
    (config / "environments" / "e.toml").write_bytes(b"\xff")
    specs = load_specs(config)
    assert len(specs.problems) == 9
    assert all("\n" not in problem for problem in specs.problems)
    assert specs.by_name["torch"].imports == ("torch", "transformers")
    assert specs.by_name["small"].variables == {"A": "1"}
    assert set(specs.by_name) == {*load_specs(tmp_path / "none").by_name, "small"}


def test_an_unknown_environment_names_the_nearest(tmp_path: Path, config: Path) -> None:
    found = environments.resolve("smal", tmp_path, config)
    assert isinstance(found, Unavailable)
    assert "did you mean small" in found.reason
    with pytest.raises(EnvironmentProblemError, match="did you mean small"):
        environments.create("smal", tmp_path, config)


def test_a_build_is_told_what_the_description_says(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config / "environments.toml").write_text(
        '[mine]\nrequirements = ["some-package"]\ntakes = "an hour"\n'
        '[mine.build.some-package]\n"cmake.define.FAST" = "ON"\n"wheel.packages" = "a;b"\n'
    )
    asked: list[tuple[str, ...]] = []

    def told(self: PackageInstaller, *arguments: str) -> tuple[int, str]:
        asked.append(arguments)
        if arguments[0] == "venv":
            (Path(arguments[-1]) / "pyvenv.cfg").write_text("version_info = 3.11.7\n")
            return 0, ""
        return 1, "error: it cannot be compiled"

    monkeypatch.setattr(PackageInstaller, "__call__", told)
    said: list[str] = []
    with pytest.raises(CreationError, match="it cannot be compiled"):
        environments.create("mine", tmp_path, config, report=lambda progress: said.append(progress.detail))

    settings = [after for word, after in pairwise(asked[1]) if word == "--config-settings-package"]
    assert settings == ["some-package:cmake.define.FAST=ON", "some-package:wheel.packages=a;b"]
    assert "an hour" in said[0]
    assert [row.takes for row in environments.listed(tmp_path, config) if row.name == "mine"] == ["an hour"]
    missing = environments.resolve("mine", tmp_path, config)
    assert isinstance(missing, Unavailable)
    assert missing.reason.endswith("Making it takes an hour.")


def test_another_build_is_another_environment(config: Path) -> None:
    table = {"requirements": ["some-package"], "build": {"some-package": {"a": "1"}}}
    spec = described("mine", table, None)

    assert described("mine", {**table, "takes": "a minute"}, None).digest == spec.digest
    assert described("mine", {**table, "build": {"some-package": {"a": "2"}}}, None).digest != spec.digest
    for wrong in ("ON", {"some-package": "ON"}, {"some-package": {"a": 1}}):
        with pytest.raises(ValueError, match="needs a table of strings for each package under build"):
            described("mine", {**table, "build": wrong}, None)


def test_a_python_version_can_be_said_shortly(tmp_path: Path, config: Path) -> None:
    (config / "environments.toml").write_text('[old]\nrequirements = ["torch==2.1.2"]\npython = "3.11"\n')
    assert load_specs(config).by_name["old"].python == "==3.11.*"


def test_pips_settings_are_said_to_uv_with_its_precedence(tmp_path: Path) -> None:
    system, user, named = tmp_path / "xdg" / "pip", tmp_path / ".config" / "pip", tmp_path / "named.conf"
    for folder in (system, user):
        folder.mkdir(parents=True)
    (system / "pip.conf").write_text("[global]\nfind-links = /system\ncert = /c.pem\n")
    (user / "pip.conf").write_text("[global]\nfind-links = /a\n    /b\n[install]\nextra-index-url = file:///x\n")
    named.write_text("no section, no sense")
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "xdg"), "PIP_CONFIG_FILE": str(named)}
    told = pip_settings.for_uv(environ)
    assert told["UV_FIND_LINKS"] == "/a,/b"
    assert told["UV_EXTRA_INDEX_URL"] == "file:///x"
    assert told["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert told["SSL_CERT_FILE"]
    assert pip_settings.for_uv({**environ, "PIP_FIND_LINKS": "/env"})["UV_FIND_LINKS"] == "/env"
    assert "UV_FIND_LINKS" not in pip_settings.for_uv({**environ, "UV_FIND_LINKS": "/uv"})
    assert pip_settings.for_uv({"PIP_CONFIG_FILE": os.devnull}) == {}


def test_a_password_in_an_index_address_is_neither_shown_nor_kept(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "http://user:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    heard: list[Progress] = []
    with pytest.raises(CreationError) as caught:
        environments.create("small", tmp_path, config, report=heard.append)
    everything = str(caught.value) + caught.value.log_tail + "".join(each.detail for each in heard)
    assert "127.0.0.1:9" in everything
    assert "hunter2" not in everything


def test_the_cpu_build_on_disk_is_chosen_only_where_python_and_requirement_allow_it(tmp_path: Path) -> None:
    for name in (
        "torch-2.9.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "torch-2.14.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl",
        "torch-2.15.0+cu130-cp311-cp311-manylinux_2_28_x86_64.whl",
        "torch-2.16.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "torch-2.17.0+cpu-cp311-cp311-win_amd64.whl",
        "torch-nonsense.whl",
    ):
        (tmp_path / name).touch()
    folders = (str(tmp_path), "/nowhere")
    if os.uname().machine == "x86_64":
        assert set(torch_builds.local_wheels(folders, (3, 11), ["torch>=2.9"])) == {"2.9.0+cpu", "2.13.0+cpu"}
        assert set(torch_builds.local_wheels(folders, (3, 11), ["numpy", "torch==2.9.0"])) == {"2.9.0+cpu"}
        assert set(torch_builds.local_wheels(folders, (3, 12), ["torch>=2.9"])) == {"2.14.0+cpu"}
    assert torch_builds.newest(["2.9.0+cpu", "2.13.0+cpu"]) == "2.13.0+cpu"
    assert torch_builds.newest([]) is None


def test_the_build_of_torch_follows_the_driver_unless_it_is_named() -> None:
    assert torch_builds.chosen_backend("auto", True) == "cuda"
    assert torch_builds.chosen_backend("auto", False) == "cpu"
    assert torch_builds.chosen_backend("cpu", True) == "cpu"
    assert torch_builds.chosen_backend("cu126", False) == "cu126"


def test_the_torch_environment_has_the_build_for_this_machine(assets: Path, config: Path) -> None:
    own = f"{sys.version_info[0]}.{sys.version_info[1]}."  # the store is kept, and other Pythons may have used it
    environments = managed.managed(assets, "torch")
    newest = next(each for each in environments if each.manifest.python_version.startswith(own))
    assert newest.manifest.backend == torch_builds.chosen_backend("auto", torch_builds.has_nvidia_driver())
    links = PackageInstaller(assets, "", lambda _: None, os.environ).find_links
    local = torch_builds.local_wheels(links, sys.version_info[:2], ["torch>=2.11,<3"])
    if local and newest.manifest.backend == "cpu":
        assert newest.manifest.versions["torch"] == torch_builds.newest(local)
    manifest = json.loads((newest.folder / managed.MANIFEST).read_text())
    assert manifest["versions"]["transformers"] == newest.manifest.versions["transformers"]


def test_a_cpu_build_on_disk_is_kept_out_of_an_environment_for_cuda(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = ".".join(map(str, sys.version_info[:2])).replace(".", "")
    wheel = f"torch-99.0.0+cpu-cp{version}-cp{version}-linux_{os.uname().machine}.whl"
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / wheel).touch()
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    (config / "environments.toml").write_text('[small]\nrequirements = ["torch>=99"]\nimports = ["torch"]\n')
    said = {}
    for backend in ("cuda", "cpu"):
        with pytest.raises(CreationError) as caught:
            environments.create("small", tmp_path, config, backend=backend)
        said[backend] = str(caught.value)
    assert "requirements are unsatisfiable" in said["cuda"]
    assert "(v99.0.0+cpu) was invalid" in said["cpu"], "it is chosen there, and is no wheel"
