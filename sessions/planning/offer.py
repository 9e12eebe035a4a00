"""What this machine offers to a plan, asked once: the device, and each method with its availability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from methods.catalogue.availability import Choice, choices
from methods.catalogue.catalogue import load_catalogue
from sessions.device.devices import Device


@dataclass(frozen=True, slots=True)
class Offer:
    """`choices` are the catalogue's methods by name; `problems` a sentence for each that could not be read."""

    device: Device
    choices: Mapping[str, Choice]
    problems: tuple[str, ...]


def offer_on(device: Device, home: Path, config_folder: Path) -> Offer:
    """What can be run on the device as things are now; starts no process."""
    catalogue = load_catalogue(config_folder)
    rows = choices(catalogue, device.facts, home, config_folder)
    return Offer(device, MappingProxyType({row.method.name: row for row in rows}), catalogue.problems)
