"""The plan of a session: what is run, how often, in which order. Made by a viewer, kept as plan.json, never changed."""

from __future__ import annotations

import random
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from sessions.disk.records import SCHEMA_VERSION

METHOD_NAME: Final = r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z"  # also part of the names of files
MOST_REQUESTS: Final = 1_000_000
MOST_TOKENS: Final = 10_000_000
MOST_BLOCKS: Final = 1000
MOST_WARMUPS: Final = 1000
LONGEST_DEADLINE_S: Final = 86_400.0


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen; temperature 0 is greedy. `stop_at_eos` false means a fixed length."""

    max_new_tokens: Annotated[int, Meta(ge=1, le=MOST_TOKENS)] = 64
    stop_at_eos: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0


class PlannedMethod(msgspec.Struct, frozen=True, kw_only=True):
    """A catalogue row as it was when the plan was made, so that a session never changes its meaning.

    `named` is true if the user asked for the method by name: then not running is an error, not just a row.
    """

    name: Annotated[str, Meta(pattern=METHOD_NAME)]
    engine: str
    environment: str
    named: bool = True
    summary: str = ""
    reference: str | None = None
    differs: str = ""
    options: dict[str, Any] = {}
    must_show: dict[str, Any] = {}
    needs: dict[str, Any] = {}
    lacking: dict[str, str] = {}  # reason and remedy, where the device does not meet the method's needs


class Deadlines(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds without a message from the runner after which a block is ended as `stalled`."""

    load_s: Annotated[float, Meta(gt=0, le=LONGEST_DEADLINE_S)] = 900.0
    token_s: Annotated[float, Meta(gt=0, le=LONGEST_DEADLINE_S)] = 120.0


class PlannedBlock(msgspec.Struct, frozen=True, kw_only=True):
    """One fresh process of one method: the warm-ups, then the timed requests with these numbers."""

    method: str
    block: int
    requests: list[int]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One session's plan. `requests` is per method, spread over its `blocks`; warm-ups are per block."""

    schema_version: int = SCHEMA_VERSION
    preset: str = ""
    model: str = "smollm2-135m"
    methods: Annotated[list[PlannedMethod], Meta(max_length=1000)] = []
    requests: Annotated[int, Meta(ge=1, le=MOST_REQUESTS)] = 6
    warmup: Annotated[int, Meta(ge=0, le=MOST_WARMUPS)] = 2
    blocks: Annotated[int, Meta(ge=1, le=MOST_BLOCKS)] = 3
    seed: int = 0
    prompt: str | None = None
    prompt_given: bool = False  # by the user, rather than by the preset
    prompt_tokens: int | None = None
    template: bool | None = None  # None: the model's chat template if it has one
    sampling: Sampling = Sampling()
    dtype: str = "bfloat16"
    device: str = "cpu"  # "cpu", or GPU indices as in "0,1"
    device_name: str = ""
    gpu_uuids: list[str] = []
    gpu_visible: list[str] = []  # what CUDA_VISIBLE_DEVICES says: UUIDs, or MIG devices
    gpu_sources: list[str] = []  # the GPUs as sources of telemetry: "gpu0"
    threads: int = 1
    deadlines: Deadlines = Deadlines()
    create_environments: bool = False
    trust_remote_code: bool = False
    aa: bool = False
    command: list[str] = []

    def order(self) -> list[PlannedBlock]:
        """Blocks interleaved: every method once per round, each round in an order drawn from the seed.

        Timed requests are numbered through a method's blocks from 0; the first blocks take the remainder.
        """
        drawn = random.Random(self.seed)  # noqa: S311 - an order, not a secret
        rows: list[PlannedBlock] = []
        first = 0
        for block in range(self.blocks):
            size = self.requests // self.blocks + (1 if block < self.requests % self.blocks else 0)
            numbers = list(range(first, first + size))
            first += size
            names = [method.name for method in self.methods]
            drawn.shuffle(names)
            rows.extend(PlannedBlock(method=name, block=block, requests=numbers) for name in names)
        return rows

    def method(self, name: str) -> PlannedMethod:
        """The planned method of that name; KeyError where the plan has none."""
        for method in self.methods:
            if method.name == name:
                return method
        raise KeyError(name)

    def request_seed(self, request: int) -> int:
        """The same seed for the same request of every method; warm-ups (negative numbers) have their own."""
        return (self.seed * 1_000_003 + request) % (2**31)


def warmup_numbers(count: int) -> list[int]:
    """Warm-ups are numbered -count … -1, so that timed requests start at 0."""
    return list(range(-count, 0))
