# mypy: ignore-errors
"""The engine `resident` on the card: is it right, how fast is each of its kernels, and which knobs are best.

    PYTHON benchmarks/resident_gpu.py --shape llama-1b --shape llama-8b --weights plain --weights int8 --csv FILE
    PYTHON benchmarks/resident_gpu.py --folder MODEL --logits

PYTHON has torch with Triton and transformers, as the environment `torch` on a GPU has; of Kasoku the runner's folder is
needed alone. Shapes are those of `synthetic:NAME`, with weights drawn on the card. After --seconds no
new part begins; what was measured until then is printed and in the file. Shares are of the bandwidth that is measured
first, as Kasoku measures it (the read rate).
"""

import argparse
import csv
import itertools
import json
import statistics
import sys
import time
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "methods" / "runner"))

import kasoku_bandwidth
import kasoku_resident_knobs as knobs_of
import kasoku_resident_tuning as tuning
import kasoku_resident_whole as whole_of
import torch
import transformers
from kasoku_asked_sampling import AskedSampling
from kasoku_engine import Request
from kasoku_resident_generating import Generating
from kasoku_resident_prompt import Graph, Prompts
from kasoku_resident_shape import shape_of, shape_of_config
from kasoku_resident_step import Step
from kasoku_resident_weights import Weights

SHAPES = Path(__file__).resolve().parents[1] / "methods" / "models" / "shapes.toml"
ARTICLE = {"temperature": 0.8, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.1}
GREEDY = {"temperature": 0.0}
COLUMNS = ("model", "weights", "what", "role", "knobs", "seconds", "ttft", "tokens_s", "bytes", "share")
RESPONSES = 5


class Told:
    """Prints each row and keeps it in the file, so that a call that is broken off has lost nothing."""

    def __init__(self, file, bandwidth):
        self.file, self.bandwidth = file, bandwidth
        if file is not None:
            with file.open("w", newline="") as out:
                csv.writer(out).writerow(COLUMNS)

    def row(self, **row):
        moved, seconds = row.get("bytes"), row.get("seconds")
        if moved and seconds:
            row["share"] = moved / seconds / self.bandwidth
        cells = [row.get(name, "") for name in COLUMNS]
        texts = [f"{each:.4g}" if isinstance(each, float) else str(each) for each in cells if each != ""]
        print("  ".join(texts), flush=True)
        if self.file is not None:
            with self.file.open("a", newline="") as out:
                csv.writer(out).writerow(cells)


class Model:
    """A model on the card with its weights packed `how`, and steps of it."""

    def __init__(self, name, config_or_folder, how, length, dtype):
        self.name, self.how, self.length = name, how, length
        if isinstance(config_or_folder, str):
            self.shape = shape_of(transformers, config_or_folder, length)
            model = transformers.AutoModelForCausalLM.from_pretrained(config_or_folder, dtype=dtype)
        else:
            self.shape = shape_of_config(transformers, config_or_folder, length)
            torch.manual_seed(0)
            with torch.device("cuda"):
                model = transformers.AutoModelForCausalLM.from_config(config_or_folder, dtype=dtype)
        self.model = model.eval().requires_grad_(False).to("cuda")
        self.weights = Weights(self.model, self.shape, how)
        self.prompts = Prompts(self.model, self.shape.layout)

    def step(self, sampling, dependent):
        asked = AskedSampling({"sampling": {"max_new_tokens": self.length, **sampling}})
        rotary = None
        if self.shape.rope:
            places = torch.arange(self.length, device="cuda")[None]
            with torch.no_grad():
                rotary = self.model.model.rotary_emb(torch.zeros(1, device="cuda"), places)
            rotary = tuple(each[0].contiguous() for each in rotary)
        return Step(self.shape, self.weights, self.length, asked, rotary, dependent)


def speed(model, step, prompt, tokens, with_graph=True):
    """Medians of a few responses: tokens/s, decode tokens/s and seconds to the first token; and the ids of the last."""
    generating = Generating(model.prompts, step, with_graph)
    job = {"prompts": [prompt], "sampling": {"max_new_tokens": tokens}, "seed": 1}
    whole, decoding, first, ids = [], [], [], []
    for _ in range(RESPONSES + 1):
        ids, arrivals = [], []

        def emit(new, ids=ids, arrivals=arrivals):
            ids.extend(new)
            arrivals.append(time.perf_counter())

        began = time.perf_counter()
        generating.stream(Request(job, {"request": 0}), emit)
        whole.append(tokens / (arrivals[-1] - began))
        decoding.append((tokens - 1) / (arrivals[-1] - arrivals[0]))
        first.append(arrivals[0] - began)
    return (*(statistics.median(each[1:]) for each in (whole, decoding, first)), ids)


def kernels(model, step, told):
    """What each kernel of a step takes, without the others beside it."""
    for role in knobs_of.ROLES:
        matrix = step.matrix(role, 0)
        told.row(
            model=model.name, weights=model.how, what="kernel", role=role, knobs=json.dumps(step.knobs[role]),
            seconds=tuning.seconds_of(step, role), bytes=matrix.nbytes(),
        )  # fmt: skip
    layers = range(step.shape.layers)
    once = dict.fromkeys(name for name, _ in step.launches(step.kinds()[-1]))
    for name in once:
        # those by role are there already, and those that go on with a token do so once a step
        if name not in (
            "resident_qkv", "resident_mlp", "resident_add", "resident_head", "resident_pick", "resident_advance",
        ):  # fmt: skip
            found = [launch for each, launch in step.launches(step.kinds()[-1]) if each == name]
            launches = found if len(found) == len(layers) else found * 20
            told.row(
                model=model.name, weights=model.how, what="kernel", role=name,
                seconds=tuning.seconds_of_launches(launches),
            )  # fmt: skip


def timeline(model, step, prompt, tokens, file):
    """Into `file`, when each kernel of one step began and ended, in µs, in the middle of a response."""
    replays = Generating(model.prompts, step, True)
    step.begin(replays.prompts.read(prompt[:-1]), prompt, tokens, 1)
    for _ in range(tokens // 2):
        replays.asked.next()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(3):
            replays.asked.next()
        torch.cuda.synchronize()
    on_card = [each for each in profile.events() if each.device_type == torch.autograd.DeviceType.CUDA]
    rows = sorted((each.time_range.start, each.time_range.end, each.name) for each in on_card)
    ends = [place for place, row in enumerate(rows) if row[2] == "resident_advance"]
    one = rows[ends[0] + 1 : ends[1] + 1]
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("kernel", "begin_us", "end_us"))
        writer.writerows((name, begin - one[0][0], end - one[0][0]) for begin, end, name in one)


def phases(model, step, prompt, tokens, file):
    """Into `file`, of each phase of one step in the one kernel, when it began, when its vector was there, when its rows
    were told, and when attention was: cycles since its program began, medians of all programs.
    """
    traced = whole_of.Whole(step, step.whole.division, trace=True)
    plain, step.whole = step.whole, traced
    replays = Generating(model.prompts, step, True)
    step.begin(replays.prompts.read(prompt[:-1]), prompt, tokens, 1)
    for _ in range(tokens // 2):
        replays.asked.next()
    torch.cuda.synchronize()
    step.whole = plain
    stamps = traced.stamps.double()
    since = stamps - stamps[:, :1, :1]
    middle = since.median(0).values.cpu()
    kinds = ("qkv", "out", "mlp", "down")
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("phase", "layer", "begin", "vector", "told", "attended"))
        for place, (begin, vector, said, attended) in enumerate(middle.tolist()):
            last = place == len(middle) - 1
            kind = "head" if last else kinds[place % 4]
            writer.writerow((kind, "" if last else place // 4, begin, vector, said, attended if kind == "out" else ""))


def wide(role, matrix):
    """More knobs than are timed while loading."""
    if role in knobs_of.TURNED:
        for how in itertools.product((4096, 8192, 16384), (4, 8), (3, 4, 5), (1, 2, 3, 4, 6)):
            knobs = knobs_of.turning(matrix, *how)
            if knobs is not None:
                yield knobs
    widest = min(knobs_of.power_of_two(matrix.width), 8192)
    tiles = [tile for tile in (512, 1024, 2048, 4096, 8192) if tile <= widest]
    for rows, tile, stages, warps in itertools.product((2, 4, 8, 16), tiles, (1, 2, 3, 4), (2, 4, 8)):
        if 2048 <= rows * tile <= 32768 and (tile < matrix.width or stages == 1):
            yield {
                **knobs_of.default(matrix, interpreted=False),
                "rows": rows,
                "tile": tile,
                "stages": stages,
                "warps": warps,
            }


def swept(model, step, told, until):
    """Time every role by many knobs, and leave the fastest in the step."""
    for role in knobs_of.ROLES:
        matrix, found = step.matrix(role, 0), []
        for knobs in wide(role, matrix):
            if time.perf_counter() > until:
                print(f"out of time within {role}")
                break
            step.knobs[role] = knobs
            try:
                seconds = tuning.seconds_of(step, role)
            except Exception as error:  # too many registers, or too much shared memory
                print(f"{role} {knobs}: {str(error).splitlines()[0][:100]}")
                continue
            found.append((seconds, knobs))
            told.row(
                model=model.name, weights=model.how, what="sweep", role=role, knobs=json.dumps(knobs), seconds=seconds,
                bytes=matrix.nbytes(),
            )  # fmt: skip
        step.knobs[role] = min(found, key=lambda each: each[0])[1] if found else knobs_of.default(matrix, False)


def swept_whole(model, step, told, moved):
    """Time the one kernel in many ways, and leave the fastest in the step."""
    step.halfway()
    found = []
    whole_of.PACING.update(
        waiting=(2, 4, 8, 16, 64), working=(16, 32, 64), together=(4, 8, 16, 32), awaited=(32, 24, 16, 8, 1)
    )
    kernels = [whole_of.Whole(step, {**each, **form}) for each in whole_of.divisions(step) for form in whole_of.FORMS]
    for kernel, way in itertools.product(kernels, whole_of.ways_of_pacing()):
        step.whole = kernel.paced(way)
        found.append((tuning.seconds_of_step(step), step.whole))
        told.row(
            model=model.name, weights=model.how, what="way", knobs=json.dumps(step.whole.division),
            seconds=found[-1][0], bytes=moved,
        )  # fmt: skip
    step.whole = min(found, key=lambda each: each[0])[1]


def logits(folder, dtype):
    """How far forced logits are off float32's: by the step, and by transformers' own paths in the same dtype."""
    import kasoku_engine
    from kasoku_forced import unexplained

    ids = json.loads((Path(folder) / "ids.json").read_text()) if (Path(folder) / "ids.json").exists() else None
    length = 96
    ids = ids or [(11 + 7919 * place) % 40_000 for place in range(length)]

    def by_transformers(kind, attention):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=kind, attn_implementation=attention)
        with torch.no_grad():
            found = model.eval().to("cuda")(torch.tensor([ids], device="cuda")).logits[0, :-1]
        return torch.log_softmax(found.double(), -1).cpu().numpy()

    exact = by_transformers(torch.float32, "eager")
    ways = {"transformers eager": by_transformers(dtype, "eager"), "transformers sdpa": by_transformers(dtype, "sdpa")}
    for name, options in {
        "plain": {"tune": False}, "int8": {"tune": False}, "fp8": {"tune": False},
        "plain, one kernel": {"whole": True}, "int8, one kernel": {"whole": True},
    }.items():  # fmt: skip
        how = name.partition(",")[0]
        job = {
            "model_folder": folder, "dtype": str(dtype).replace("torch.", ""), "device": "cuda", "threads": 0,
            "options": {"weights": how, **options}, "prompts": [ids[:1]], "requests": [{"request": 0}], "seed": 0,
            "sampling": {"max_new_tokens": len(ids), "temperature": 0.0},
        }  # fmt: skip
        engine = kasoku_engine.take_engine("resident")
        engine.import_packages(job)
        engine.load(job)
        said = engine.step.whole.division if engine.step.whole is not None else "no"
        print(f"resident {name}: one kernel: {said}")
        ways[f"resident {name}"] = engine.score_decode(ids, len(ids) - 1).log_probs.astype("float64")
        engine.close()
    for name, found in ways.items():
        same = (found.argmax(-1) == exact.argmax(-1)).mean()
        off, rest = abs(found - exact).max(), unexplained(exact, found)
        print(f"{name:26s} unexplained {rest:.2e}  largest difference {off:.3f}  same choice {same:.3f}", flush=True)


def measured(name, config_or_folder, how, arguments, told, until):
    """All figures of one model in one form."""
    dtype, length = getattr(torch, arguments.dtype), arguments.prompt + arguments.tokens
    model = Model(name, config_or_folder, how, length, dtype)
    moved = model.weights.read_each_token() + model.shape.cache_bytes(length // 2, dtype.itemsize)
    prompt = [(3 + 31 * place) % model.shape.vocabulary for place in range(arguments.prompt)]
    dependent = torch.cuda.get_device_capability() >= (9, 0) and not arguments.plain_launch

    def tell(what, step, with_graph=True):
        whole, decoding, ttft, ids = speed(model, step, prompt, arguments.tokens, with_graph)
        told.row(
            model=name, weights=how, what=what, tokens_s=whole, ttft=ttft, seconds=1 / decoding, bytes=moved,
            knobs=json.dumps(step.knobs),
        )  # fmt: skip
        return ids

    step = model.step(GREEDY, dependent)
    first = tell("prompt launched kernel by kernel", step)
    began = time.perf_counter()
    print("prompts in graphs:", model.prompts.capture([len(prompt) - 1], Graph), f"{time.perf_counter() - began:.2f} s")
    by_kernels, first = first, tell("default knobs", step)
    print(f"the same ids with the prompt in a graph: {first == by_kernels}")
    if dependent:
        assert tell("no dependent launch", model.step(GREEDY, False)) == first, "the plain graph says something else"
    began = time.perf_counter()
    if arguments.sweep and arguments.whole:
        swept_whole(model, step, told, moved)
    elif arguments.sweep:
        swept(model, step, told, until)
    else:
        print(json.dumps(tuning.tuned(step, "benchmark", arguments.whole)))
    print(f"knobs found in {time.perf_counter() - began:.1f} s")
    ids = tell("best knobs" if step.whole is None else "one kernel", step)
    print(f"the same ids as by default: {ids == first}")
    sampled = model.step(ARTICLE, dependent)
    sampled.knobs = step.knobs
    if step.whole is not None:
        sampled.whole = whole_of.Whole(sampled, step.whole.division)
    tell("the article's sampling", sampled)
    if arguments.timeline and step.whole is not None:
        phases(model, step, prompt, arguments.tokens, arguments.timeline)
    elif arguments.timeline:
        timeline(model, step, prompt, arguments.tokens, arguments.timeline)
    kernels(model, sampled, told)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", action="append", default=[], help="of methods/models/shapes.toml")
    parser.add_argument("--folder", action="append", default=[], help="a model with safetensors")
    parser.add_argument("--weights", action="append", choices=("plain", "int8", "fp8"))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--plain-launch", action="store_true", help="as on a card before Hopper")
    parser.add_argument("--whole", action="store_true", help="one kernel for all layers, where that is faster")
    parser.add_argument("--sweep", action="store_true", help="many ways instead of those timed while loading")
    parser.add_argument("--timeline", type=Path, help="a CSV of when each kernel of a step begins and ends")
    parser.add_argument("--logits", action="store_true", help="only compare the folders' logits")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    until = time.perf_counter() + arguments.seconds

    if arguments.logits:
        for folder in arguments.folder:
            logits(folder, getattr(torch, arguments.dtype))
        return
    bandwidth = kasoku_bandwidth.measured(torch, torch.device("cuda", 0), 1.0)["read_bytes_s"]
    properties = torch.cuda.get_device_properties(0)
    print(f"{properties.name}, {bandwidth / 1e9:.0f} GB/s read, torch {torch.__version__}")
    told = Told(arguments.csv, bandwidth)
    shapes = tomllib.loads(SHAPES.read_text(encoding="utf-8"))
    models = {}
    for name in arguments.shape:
        config = dict(shapes[name]["config"])
        models[name] = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    models.update({Path(folder).name: folder for folder in arguments.folder})
    for name, each in models.items():
        for how in arguments.weights or ["plain"]:
            if time.perf_counter() < until:
                measured(name, each, how, arguments, told, until)
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
