"""How GPUs are linked, as the driver tells it of each two of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from probes.capture import capture
from probes.gpu.link import GpuLink, linked_in_words
from probes.gpu.links import NVLINK as OVER_NVLINK
from probes.gpu.links import READ, WRITE
from probes.gpu.nvml import Nvml
from tests.probes.fake_nvml import FakeNvml

NVSWITCH = "NVLink 4, 18 links, with peer access"


def links(library: FakeNvml) -> tuple[GpuLink, ...]:
    return tuple(capture(Nvml(library)).links())


def said(library: FakeNvml) -> list[tuple[bool | None, str]]:
    return list(linked_in_words(links(library)))


def over_pcie(library: FakeNvml, *pairs: tuple[int, int]) -> FakeNvml:
    library.peers |= {(*pair, OVER_NVLINK): 5 for pair in pairs}
    return library


def test_one_gpu_is_linked_with_nothing_and_is_not_asked() -> None:
    library = FakeNvml(1)
    assert links(library) == ()
    assert not [name for name, _ in library.calls if "NvLink" in name or "P2P" in name]


def test_gpus_at_a_switch_share_all_their_links_and_are_told_in_one_line() -> None:
    assert said(FakeNvml(8)) == [(True, f"any two of {', '.join(f'gpu{n}' for n in range(8))}: {NVSWITCH}")]
    assert said(FakeNvml(2)) == [(True, f"gpu0 and gpu1: {NVSWITCH}")]


def test_links_that_lead_from_one_to_the_other_alone_count() -> None:
    class Bridged(FakeNvml):
        """GPUs 0 and 1 have four links to each other; the rest of GPU 0's lead elsewhere."""

        def _call(self, name: str, handle: object = None, *arguments: object, **options: object) -> object:
            if name == "nvmlDeviceGetNvLinkRemotePciInfo":
                return SimpleNamespace(busId=b"00000000:02:00.0" if arguments[0] in range(4) else b"00000000:09:00.0")
            return super()._call(name, handle, *arguments, **options)

    (link,) = links(Bridged(2))
    assert (link.kind, link.nvlinks, link.nvlink_generation) == ("NVLink", 4, 4)


def test_pcie_is_told_with_the_lesser_of_both_and_its_way() -> None:
    library = over_pcie(FakeNvml(2), (0, 1))
    library.nvlinks = 0
    (link,) = links(library)
    assert (link.kind, link.pcie_generation, link.pcie_width, link.nvlinks) == ("PCIe", 5, 16, None)
    assert said(library) == [(True, "gpu0 and gpu1: PCIe 5.0 x16 through the CPU, with peer access")]


@pytest.mark.parametrize(
    ("capability", "status", "reason"),
    [(READ, 3, "the way between them over PCIe does not support it"), (WRITE, 4, "the driver's settings forbid it")],
)
def test_access_that_is_refused_either_way_is_none_and_has_its_reason(
    capability: int, status: int, reason: str
) -> None:
    library = over_pcie(FakeNvml(4), *((a, b) for a in range(4) for b in range(a + 1, 4)))
    library.peers[0, 1, capability] = library.peers[2, 3, capability] = status
    told = dict(said(library))
    assert told[False].startswith("gpu0 and gpu1; gpu2 and gpu3: PCIe 5.0 x16")
    assert told[False].endswith(f"without peer access: {reason}")
    assert "gpu0 and gpu2; gpu0 and gpu3; gpu1 and gpu2; gpu1 and gpu3" in told[True]


def test_a_driver_that_does_not_tell_leaves_gaps_with_the_reason() -> None:
    library = FakeNvml(2)
    library.fail |= {"nvmlDeviceGetP2PStatus": 13, "nvmlDeviceGetCudaComputeCapability": 3}
    (link,) = links(library)
    assert (link.kind, link.peer_access) == ("", None)
    assert "too old to report it" in link.in_words()
    library.fail.pop("nvmlDeviceGetP2PStatus")
    assert links(library)[0].in_words() == "NVLink, 18 links, with peer access"


@pytest.mark.parametrize("rubbish", ["\x1b[31mrubbish", None, -1, 6, 10**30])
def test_rubbish_is_nothing_known(rubbish: object) -> None:
    library = FakeNvml(2)
    library.give |= dict.fromkeys(
        (
            "nvmlDeviceGetP2PStatus",
            "nvmlDeviceGetNvLinkState",
            "nvmlDeviceGetNvLinkRemotePciInfo",
            "nvmlDeviceGetTopologyCommonAncestor",
        ),
        rubbish,
    )
    (link,) = links(library)
    assert (link.kind, link.peer_access) == ("", None)
    assert link.reason
    assert "\x1b" not in link.in_words()
