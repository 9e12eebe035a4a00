"""What a machine lacks for a method, said before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter, Unavailable
from methods.catalogue.availability import DeviceFacts, interpreter_for, lacking, with_packages
from methods.catalogue.method import Needs

HOPPER = DeviceFacts("cuda", "NVIDIA H200", "580.126.20", "9.0", 140_000_000_000)
BLACKWELL = DeviceFacts("cuda", "NVIDIA B200", "580.126.20", "10.0", 180_000_000_000)
TURING = DeviceFacts("cuda", "NVIDIA T4", "470.57", "7.5", 15_000_000_000)
UNKNOWN = DeviceFacts("cuda", "a GPU")


@pytest.mark.parametrize(
    ("needs", "device", "says"),
    [
        (Needs(devices=("cuda",)), DeviceFacts("cpu"), "It runs on an NVIDIA GPU only."),
        (Needs(min_driver="525.60"), TURING, "It needs NVIDIA driver 525.60 or later, not 470.57."),
        (
            Needs(min_compute_capability="8.0"),
            TURING,
            "It needs a GPU of compute capability 8.0 or higher; NVIDIA T4 has 7.5.",
        ),
        (
            Needs(max_compute_capability="9.0"),
            BLACKWELL,
            "Its kernels are made for GPUs of compute capability 9.0 at most; NVIDIA B200 has 10.0.",
        ),
        (
            Needs(free_bytes=20_000_000_000),
            TURING,
            "It needs 20.0 GB of free memory; NVIDIA T4 has 15.0 GB.",
        ),
    ],
)
def test_a_lack_is_said_with_what_is_there(needs: Needs, device: DeviceFacts, says: str) -> None:
    lack = lacking(needs, device)

    assert lack is not None
    assert lack.reason == says


@pytest.mark.parametrize("device", [HOPPER, UNKNOWN, DeviceFacts("cpu")])
def test_what_is_met_or_not_known_is_no_lack(device: DeviceFacts) -> None:
    needs = Needs(min_driver="525.60", min_compute_capability="7.5", max_compute_capability="9.0", free_bytes=1)

    assert lacking(needs, device) is None


def test_a_package_beside_the_environment_is_looked_for_before_anything_is_loaded(tmp_path: Path) -> None:
    python = tmp_path / "my env" / "bin" / "python"
    metadata = tmp_path / "my env" / "lib" / "python3.12" / "site-packages" / "Flash_Attn-2.8.3.dist-info"
    found = Interpreter("torch", python, (), {}, "configured", {})
    packages = ("flash-attn",)

    lack = with_packages(packages, found)
    assert lack == Unavailable(
        "The environment torch has no flash-attn, which is not made with it.",
        f"uv pip install --python '{python}' --no-build-isolation flash-attn",
    )
    assert with_packages((), found) is found
    assert with_packages(packages, lack) is lack

    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: flash_attn\nVersion: 2.8.3\n")
    assert with_packages(packages, found) is found


@pytest.mark.parametrize(("kind", "compiler"), [("cuda", "C"), ("cpu", "C++")])
def test_a_compiler_is_looked_for_on_the_path(
    kind: str, compiler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    lack = interpreter_for(
        Needs(compiler=True), "torch", kind, tmp_path, lambda name: Unavailable(f"{name} was looked for", "")
    )

    assert isinstance(lack, Unavailable)
    assert f"finds no {compiler} compiler" in lack.reason
