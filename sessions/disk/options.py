"""The options of a run, each declared once: the command line, the form, a plan's facts and its command are read here.

They are fields of the plan too. Standard library only; annotations are not postponed (see option_table).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sessions.disk import option_words
from sessions.disk.deadlines import Deadlines
from sessions.disk.loads import Loads
from sessions.disk.option_table import Option, check, option
from sessions.disk.sampling import MOST_TOKENS, Sampling

MOST_REQUESTS: Final = 1_000_000
MOST_BLOCKS: Final = 1000
UNTIL_BLOCKS: Final = 50  # the most blocks of a method, and
UNTIL_AT_MOST_S: Final = 1800.0  # the most time, where only a precision was asked for
MOST_WARMUPS: Final = 1000
MOST_THREADS: Final = 1024
MOST_LANES: Final = 64
EACH_GPU: Final = 0  # of --spread: as many as there are GPUs
MOST_DEGREE: Final = 64  # GPUs that one engine is split over
AUTO: Final = "auto"  # of --server: the one that is found
DTYPES: Final = ("bfloat16", "float16", "float32")


def _degrees(help: str, label: str, unsaid: str) -> Mapping[str, Option]:  # noqa: A002 - argparse's name
    """Over how many GPUs one engine is divided, as a list of which each number is a method of its own."""
    return option(
        Option(
            metavar="N,…",
            help=help,
            listed=int,
            least=1,
            most=MOST_DEGREE,
            label=label,
            unsaid=unsaid,
            say=lambda shown, _: f"{shown} GPUs, each a method of its own",
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """All that can be asked of a run but its methods, which are the catalogue's. A preset is one of these."""

    preset: str = field(
        default="quick",
        metadata=option(
            Option(
                metavar="quick|quantised|engines|load|llama-bench|inferencex|article",
                help="source of the defaults (quick)",
                label="preset",
            )
        ),
    )
    device: str = field(  # "cpu", or GPU indices as in "0,1"
        default="cpu",
        metadata=option(
            Option(
                also="--devices",
                metavar="cpu|N[,N]",
                help="default: the idlest GPU, otherwise the CPU",
                label="device",
                say=option_words.device,
            )
        ),
    )
    model: str = field(
        default="smollm2-135m",
        metadata=option(
            Option(
                metavar="M",
                help="smollm2-135m, org/name on the Hub, a folder, or synthetic:SHAPE",
                label="model",
                say=option_words.model,
            )
        ),
    )
    prompt: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="TEXT|@FILE|-",
                help="the prompt: text, a file, or standard input",
                label="prompt",
                unsaid="the default prompt",
                heading="",  # what a prompt is depends on the model
            )
        ),
    )
    requests: int = field(
        default=6,
        metadata=option(
            Option(
                metavar="N",
                help="timed responses per method, spread over its blocks",
                least=1,
                most=MOST_REQUESTS,
                label="requests",
                say=option_words.requests,
            )
        ),
    )
    blocks: int = field(
        default=3,
        metadata=option(
            Option(
                metavar="B",
                help="fresh processes per method",
                least=1,
                most=MOST_BLOCKS,
                label="blocks",
                heading="",  # said with the requests
            )
        ),
    )
    until: float | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="P%",
                help="add blocks until each method is decided, or its ratio's interval is within ±P %%",
                least=0.001,
                most=0.5,
                unit="%",
                label="until",
                unsaid="the blocks are done",
                heading="until",
                say=lambda shown, _: f"decided, or known to ±{shown}",
            )
        ),
    )
    at_most: float | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="TIME",
                help="with --until: after three rounds, add none that would end later than this (30m); with --server"
                " alone: measure no longer (40s)",
                least=10.0,
                most=604_800.0,
                unit="s",
                label="at most",
                unsaid="no limit",
                heading="until",
                say=lambda shown, _: f"at most {shown}",
            )
        ),
    )
    warmup: int = field(
        default=2,
        metadata=option(
            Option(
                metavar="N",
                help="warm-up responses per block",
                least=0,
                most=MOST_WARMUPS,
                label="warm-up",
                say=option_words.warmup,
            )
        ),
    )
    sampling: Sampling = field(default_factory=Sampling)
    template: bool | None = field(  # None: the model's chat template if it has one
        default=None,
        metadata=option(
            Option(
                flag="--chat",
                negative="--raw",
                help="use the model's chat template (the default if it has one)",
                negative_help="the text alone, no chat template",
                label="chat template",
                words=("raw prompt", "chat template"),
                heading="",  # said with the prompt
            )
        ),
    )
    prompt_tokens: int | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="N",
                help="a prompt of exactly N tokens instead",
                least=1,
                most=MOST_TOKENS,
                label="prompt tokens",
                unsaid="the prompt's length",
                heading="",  # said with the prompt
            )
        ),
    )
    loads: Loads = field(default_factory=Loads)
    seed: int = field(
        default=0,
        metadata=option(
            Option(
                metavar="S",
                help="seed of order and sampling (default: random, stored)",
                least=0,
                most=2**31 - 1,
                label="seed",
                unsaid="drawn",
                say=lambda shown, _: f"{shown} (block order and sampling)",
                job=True,
            )
        ),
    )
    dtype: str = field(
        default="bfloat16",
        metadata=option(
            Option(
                metavar="D",
                help="bfloat16, float16 or float32",
                choices=DTYPES,
                label="dtype",
                say=option_words.dtype,
                job=True,
            )
        ),
    )
    threads: int = field(
        default=1,
        metadata=option(
            Option(
                metavar="N",
                help="CPU threads, the same for every method",
                least=1,
                most=MOST_THREADS,
                label="CPU threads",
                unsaid="one per physical core",
                job=True,
            )
        ),
    )
    tensor_parallel: str | None = field(
        default=None,
        metadata=_degrees(
            help="split each method over so many GPUs, each of these numbers a method of its own: vllm@tp2",
            label="split over",
            unsaid="all GPUs",
        ),
    )
    pipeline_parallel: str | None = field(
        default=None,
        metadata=_degrees(
            help="or lay its layers on so many GPUs, one after another: vllm@pp2",
            label="pipeline over",
            unsaid="no pipeline",
        ),
    )
    spread: int | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="N",
                bare=EACH_GPU,
                help="measure so many rounds side by side, each on GPUs or cores of its own (alone: one on each GPU)",
                least=EACH_GPU,
                most=MOST_LANES,
                label="rounds at once",
                unsaid="one",
                say=lambda shown, _: f"{shown}, each on its own part of the device",
            )
        ),
    )
    deadlines: Deadlines = field(default_factory=Deadlines)
    create_environments: bool = field(
        default=False,
        metadata=option(
            Option(
                help="create missing environments first",
                label="environments",
                words=("use existing ones", "create missing ones"),
                say=lambda *_: "created if missing",
            )
        ),
    )
    trust_remote_code: bool = field(
        default=False,
        metadata=option(
            Option(
                help="run code that ships with the model",
                label="model's code",
                words=("not run", "trusted and run"),
                heading="",  # said with the model
                job=True,
            )
        ),
    )
    aa: bool = field(
        default=False,
        metadata=option(
            Option(
                help="run the reference against itself: measures the noise floor",
                label="noise floor",
                words=("not measured", "A/A: reference twice"),
                say=lambda *_: "A/A: the reference runs against itself",
            )
        ),
    )

    fidelity: bool = field(
        default=False,
        metadata=option(
            Option(
                negative="--no-fidelity",
                help="score each method's fidelity to the unquantised model after its timed part (not in quick)",
                negative_help="leave that out",
                label="fidelity",
                words=("not measured", "measured"),
                say=lambda shown, _: f"{shown}, in prefill and in decoding" if shown == "measured" else shown,
            )
        ),
    )
    fidelity_text: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="FILE",
                help="with a text of yours, instead of Kasoku's passage; implies --fidelity",
                label="fidelity text",
                unsaid="Kasoku's passage",
                heading="fidelity",
                say=lambda shown, _: f"text {shown}",
            )
        ),
    )
    reference_model: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="M",
                help="the unquantised model that fidelity is to, where MODEL is not it; implies --fidelity",
                label="reference model",
                unsaid="the model itself",
                heading="fidelity",
                say=lambda shown, _: f"to {shown}",
            )
        ),
    )

    # no label for what follows: a form that checks as one types would ask half of an address, with the key
    server: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="URL|auto",
                help="a server that runs already; auto: the one that is found on this machine's usual ports",
                heading="server",
            )
        ),
    )
    server_model: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="NAME",
                help="with --server: which of its models",
                heading="server",
                say=lambda shown, _: f"its model {shown}",
            )
        ),
    )
    server_key: str | None = field(
        default=None,
        metadata=option(
            Option(
                metavar="VARIABLE",
                help="with --server: the environment variable that holds its API key",
                heading="server",
                say=lambda shown, _: f"its key in ${shown}",
            )
        ),
    )

    def __post_init__(self) -> None:
        check(self)
