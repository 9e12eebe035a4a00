"""A method: a row of the catalogue. Each key is declared once, as a field that knows how it is read from TOML."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import methods
from methods.base.user_path import named_path
from methods.catalogue import evidence
from methods.catalogue.toml_keys import (
    KeyProblemError,
    check_storable,
    inner_table,
    key,
    only_known,
    read_keys,
    text,
    text_or_empty,
    text_or_none,
    texts,
)
from methods.models.conversions import CONVERSIONS

ENGINES = Path(methods.__file__).parent / "runner" / "kasoku_engines"
DEVICES = ("cuda", "cpu")
SERVER = "server"  # the engine that a model is behind HTTP for
LLAMACPP = "llamacpp"
KEY_FROM = "key_from"  # its option that names the variable with a key
OTHERS = "others"  # the group of a method that names none
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
COMPUTE_CAPABILITY = re.compile(r"\d+\.\d+")
DRIVER = re.compile(r"\d+(\.\d+)*")


def _devices(table: Mapping[str, object], name: str) -> tuple[str, ...]:
    devices = texts(table, name) or DEVICES
    for device in devices:
        if device not in DEVICES:
            raise KeyProblemError(f"needs: unknown device {device!r}; choose from {' and '.join(DEVICES)}")
    return devices


def _driver(table: Mapping[str, object], name: str) -> str | None:
    driver = text_or_none(table, name)
    if driver and not DRIVER.fullmatch(driver):
        raise KeyProblemError(f'needs: {name!r} must be a version such as "535.104"')
    return driver


def _capability(table: Mapping[str, object], name: str) -> str | None:
    capability = text_or_none(table, name)
    if capability and not COMPUTE_CAPABILITY.fullmatch(capability):
        raise KeyProblemError(f"needs: {name!r} must be a string such as '8.0'")
    return capability


def _yes_or_no(table: Mapping[str, object], name: str, within: str = "") -> bool:
    value = table.get(name, False)
    if not isinstance(value, bool):
        raise KeyProblemError(f"{within}{name!r} must be true or false")
    return value


def _needed(table: Mapping[str, object], name: str) -> bool:
    return _yes_or_no(table, name, "needs: ")


def _bytes(table: Mapping[str, object], name: str) -> int | None:
    value = table.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise KeyProblemError(f"needs: {name!r} must be a whole number of bytes")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a machine must have. The driver and the compute capability (lowest and highest) apply to GPUs only."""

    devices: tuple[str, ...] = field(default=DEVICES, metadata=key(_devices))
    min_driver: str | None = field(default=None, metadata=key(_driver))
    min_compute_capability: str | None = field(default=None, metadata=key(_capability))
    max_compute_capability: str | None = field(default=None, metadata=key(_capability))
    compiler: bool = field(default=False, metadata=key(_needed))
    free_bytes: int | None = field(default=None, metadata=key(_bytes))


def _needs(table: Mapping[str, object], name: str) -> Needs:
    return Needs(**read_keys(Needs, inner_table(table, name), "needs: "))


def _engine(engine: str, folder: Path) -> str:
    """One of ours by name, an absolute path, or `./NAME.py` beside the TOML file."""
    if "/" in engine or engine.endswith(".py"):
        path = folder / engine if engine.startswith("./") else named_path(engine)
        if not path.is_absolute():
            raise KeyProblemError(
                f"the engine {engine!r} must be an absolute path, './NAME.py' beside this file, or the name of one of"
                " kasoku's engines"
            )
        if not os.path.isfile(path):
            raise KeyProblemError(f"no such engine file: {path}")
        return str(path)
    own = sorted(file.stem.removeprefix("kasoku_") for file in ENGINES.glob("kasoku_*.py"))
    if engine not in own:
        raise KeyProblemError(
            f"unknown engine {engine!r}; choose {', '.join(own)}, or give the absolute path of your file"
        )
    return engine


def _environments(table: Mapping[str, object], name: str) -> dict[str, str]:
    environments = inner_table(table, name)
    only_known(environments, DEVICES, "environments: ")
    if not environments:
        raise KeyProblemError("'environments' is missing: name one for cpu, for cuda, or for both")
    return {device: text(environments, device) for device in environments}


def _group(table: Mapping[str, object], name: str) -> str:
    return text_or_none(table, name) or OTHERS


def _conversion(table: Mapping[str, object], name: str) -> str | None:
    conversion = text_or_none(table, name)
    if conversion is not None and conversion not in CONVERSIONS:
        raise KeyProblemError(f"unknown conversion {conversion!r}; choose from {', '.join(CONVERSIONS)}")
    return conversion


def _must_show(table: Mapping[str, object], name: str) -> dict[str, object]:
    conditions = inner_table(table, name)
    _check_conditions(conditions, "must_show: ", evidence.DEVICES)
    return conditions


def _check_conditions(table: Mapping[str, object], within: str, devices: tuple[str, ...] = ()) -> None:
    """A table `cpu` or `cuda` among the conditions holds more of them, for that device."""
    only_known(table, (*evidence.CONDITIONS, evidence.WHY_NOT, *devices), within)
    for name, value in table.items():
        if name in devices:
            _check_conditions(inner_table(table, name), f"{within}{name}: ")
        elif name == evidence.WHY_NOT:
            explanations = inner_table(table, name)
            only_known(explanations, [each for each in table if each not in (name, *devices)], f"{within}why_not: ")
            for condition in explanations:
                text(explanations, condition)
        elif problem := evidence.problem_of(name, value):
            raise KeyProblemError(f"{within}{name!r} {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to generate. `engine` is the name of a built-in engine or the absolute path of a user's file.

    `fidelity_floor` marks those with the reference's weights and precision and well-known arithmetic, whose loss is
    that of rounding alone.
    """

    name: str
    summary: str = field(default="", metadata=key(text))
    engine: str = field(metadata=key(text))
    options: Mapping[str, object] = field(default_factory=dict, metadata=key(inner_table))
    environments: Mapping[str, str] = field(default_factory=dict, metadata=key(_environments))  # by device
    conversion: str | None = field(
        default=None, metadata=key(_conversion)
    )  # what its engine reads in place of the model
    needs: Needs = field(default=Needs(), metadata=key(_needs))
    packages: tuple[str, ...] = field(default=(), metadata=key(texts))  # which its environment does not bring
    must_show: Mapping[str, object] = field(default_factory=dict, metadata=key(_must_show))
    reference: str | None = field(default=None, metadata=key(text_or_none))
    differs: str = field(default="", metadata=key(text_or_empty))
    good_for: str = field(default="", metadata=key(text_or_empty))
    origin: str = field(default="", metadata=key(text_or_empty))
    group: str = field(default=OTHERS, metadata=key(_group))  # under which it is listed
    presets: tuple[str, ...] = field(default=(), metadata=key(texts))
    fidelity_floor: bool = field(default=False, metadata=key(_yes_or_no))
    tensor_parallel: bool = field(default=False, metadata=key(_yes_or_no))  # its engine can be split over GPUs, and
    pipeline_parallel: bool = field(default=False, metadata=key(_yes_or_no))  # its layers laid on one after another
    program: str | None = field(default=None, metadata=key(text_or_none))  # in the environment or on the PATH
    program_from: str = field(default="", metadata=key(text_or_empty))  # what to do where it is not there

    @property
    def library(self) -> str:
        """The engine in whose terms it reads a model: a server's is that of the library which it serves with."""
        return str(self.options.get("protocol", self.engine)) if self.engine == SERVER else self.engine

    @property
    def one_process(self) -> bool:
        """Whether its engine is one process with all its GPUs, which splits rows of matrices, instead of one process on
        each, with whole heads of its own.
        """
        return self.library == LLAMACPP

    @property
    def below_runner(self) -> bool:
        """Whether what it measures descends from its runner, and is not mistaken for what else is running."""
        return self.fresh and not (self.engine == SERVER and self.options.get("container"))

    @property
    def fresh(self) -> bool:
        """Whether each block is a process of its own: a server that runs already is one for all."""
        return self.engine != SERVER or "url" not in self.options


def read_method(name: str, row: object, folder: Path) -> Method:
    """A method from its table in a file of that folder. Raises KeyProblemError."""
    if not NAME.fullmatch(name):
        raise KeyProblemError("a name is up to 64 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit")
    if not isinstance(row, dict):
        raise KeyProblemError(f"it must be a table [methods.{name}]")
    check_storable(row)
    values = read_keys(Method, row)
    values["engine"] = _engine(values["engine"], folder)
    method = Method(name=name, **values)
    if method.reference and "differs" not in row:
        raise KeyProblemError("it has a reference, so it needs 'differs': how it differs from it")
    return method
