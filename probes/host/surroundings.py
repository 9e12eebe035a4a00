"""What changes the speed of the same method on the same parts: settings of the kernel, of its caller and of the CPU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from probes.base.reading import printable

NOT_TOLD: Final = "not reported by this system"
CPU: Final = "sys/devices/system/cpu"
HUGE_PAGES: Final = "sys/kernel/mm/transparent_hugepage/enabled"
TURBO: Final = ((f"{CPU}/intel_pstate/no_turbo", "0"), (f"{CPU}/cpufreq/boost", "1"))  # file, and its word for on
LONGEST: Final = 1000
LONGEST_LINE: Final = 10_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment variable of runners: of all of them, or of those in an environment that sets it."""

    name: str
    value: str
    environment: str = ""

    def __str__(self) -> str:
        return f"{self.name}={self.value}{f' (environment {self.environment})' if self.environment else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Kept with a session, and compared. None or empty: unknown, and `missing` has the reason if it was looked for.

    variables: those of runners that steer libraries, without what Kasoku sets itself. cpu_flags: as the kernel lists
    them. smt, turbo: whether they are on. transparent_huge_pages: always, madvise or never. runner_cpus, memory_nodes:
    what the runner may use, in the kernel's list format, "0-5,7". numa_policy: as in "default", "bind:0".
    """

    variables: tuple[Variable, ...] | None = None
    cpu_flags: tuple[str, ...] = ()
    smt: bool | None = None
    turbo: bool | None = None
    transparent_huge_pages: str | None = None
    numa_policy: str | None = None
    memory_nodes: str | None = None
    runner_cpus: str = ""
    missing: dict[str, str] = field(default_factory=dict)


def surroundings(variables: Iterable[Variable], runner_cpus: Iterable[int], root: Path = Path("/")) -> Surroundings:
    """Read them, with the variables and CPUs that a runner gets. `root` stands for / in tests. Raises nothing."""
    missing: dict[str, str] = {}

    def found(name: str, value: T) -> T:
        if value in (None, ()):
            missing[name] = NOT_TOLD
        return value

    flags = _after_colon(root / "proc/cpuinfo", "flags") or _after_colon(root / "proc/cpuinfo", "Features") or ""
    smt = _text(root / CPU / "smt/active")
    turbo = next(((text == on) for name, on in TURBO if (text := _text(root / name)) is not None), None)
    pages = _text(root / HUGE_PAGES)
    policy = (_first_line(root / "proc/self/numa_maps") or "").split()[1:2]
    return Surroundings(
        variables=tuple(
            Variable(name=printable(each.name), value=printable(each.value, LONGEST), environment=each.environment)
            for each in variables
        ),
        cpu_flags=found("cpu_flags", tuple(sorted(printable(flags, LONGEST_LINE).split()))),
        smt=found("smt", None if smt is None else smt == "1"),
        turbo=found("turbo", turbo),
        transparent_huge_pages=found(
            "transparent_huge_pages", None if pages is None else pages.partition("[")[2].partition("]")[0] or pages
        ),
        numa_policy=found("numa_policy", policy[0] if policy else None),
        memory_nodes=found("memory_nodes", _after_colon(root / "proc/self/status", "Mems_allowed_list")),
        runner_cpus=listed(runner_cpus),
        missing=missing,
    )


def listed(numbers: Iterable[int]) -> str:
    """Numbers in the kernel's list format."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def _text(file: Path) -> str | None:
    try:
        return printable(file.read_text(errors="replace").strip()) or None
    except OSError:
        return None


def _first_line(file: Path) -> str | None:
    try:
        with file.open(errors="replace") as lines:
            return printable(lines.readline().strip()) or None
    except OSError:
        return None


def _after_colon(file: Path, name: str) -> str | None:
    """The first value of a `name : value` file."""
    try:
        with file.open(errors="replace") as lines:
            for line in lines:
                key, colon, value = line.partition(":")
                if colon and key.strip() == name:
                    return value.strip() or None
    except OSError:
        pass
    return None
