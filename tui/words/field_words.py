"""Columns and fields in words: `peak_vram_bytes` is "peak VRAM", and its value 2.31 GB."""

from __future__ import annotations

import json
from typing import Any, Final

from tui.words import figures

UNITS: Final = {"_bytes_s": "", "_bytes": "", "_percent": "%", "_mhz": "MHz", "_s": "", "_j": "J", "_w": "W"}
WORDS: Final = {
    "api": "API", "cpu": "CPU", "cpus": "CPUs", "cuda": "CUDA", "dram": "DRAM", "ecc": "ECC", "gpu": "GPU",
    "gpus": "GPUs", "id": "ID", "itl": "ITL", "kv": "KV", "mig": "MIG", "numa": "NUMA", "nvlink": "NVLink",
    "nvlinks": "NVLinks", "os": "OS", "pci": "PCI", "pcie": "PCIe", "ram": "RAM", "rapl": "RAPL", "rss": "RSS",
    "sm": "SM", "smt": "SMT", "uuid": "UUID", "vram": "VRAM",
}  # fmt: skip


def label(name: str) -> str:
    """The name in words; its unit stands with the number."""
    ending = next((unit for unit in UNITS if name.endswith(unit)), "")
    words = name.removesuffix(ending).replace("itl_s_", "itl_").split("_")
    return " ".join(WORDS.get(word, word) for word in words)


def figure(name: str, value: Any) -> str:
    """A value of any kind, a number in the unit that its name ends with."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(word, value)) if isinstance(value, list | tuple) else word(value)
    if name.endswith("_bytes_s"):
        return f"{figures.size(value)}/s"
    if name.endswith("_bytes") or name.startswith("bytes_per_"):
        return figures.size(value)
    if name.endswith("_s") or "_s_p" in name:
        return figures.duration(value)
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    unit = next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")
    return f"{shown} {unit}".rstrip()


def word(value: Any) -> str:
    """A value that is not a number; a table or a list as JSON."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list | tuple) else str(value)
