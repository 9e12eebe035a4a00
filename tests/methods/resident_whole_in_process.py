# mypy: ignore-errors
"""What test_resident.py runs once in an environment with torch and Triton: the kernel of all layers, on the CPU.

    PYTHON -I resident_whole_in_process.py RUNNER FOLDER > RESULT.json

One thread goes from one of the card's to the next (resident_card_on_cpu.cpp), so models and programs are tiny.
"""

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers

sys.path.insert(0, sys.argv[1])

import kasoku_nvrtc
import kasoku_resident_knobs as knobs_of
import kasoku_resident_tuning as tuning
import kasoku_resident_whole as whole_of
import kasoku_torch_facts as torch_facts
from kasoku_cuda_driver import DriverError, Kernel
from kasoku_engine import Request, UnsupportedError, take_engine
from kasoku_resident_prompt import FILLED_TO

FOLDER, HERE = Path(sys.argv[2]), Path(__file__).parent
PROMPTS = {length: [(5 + 31 * place) % 203 for place in range(length)] for length in (8, 90)}
NEW = 3
SMALL = {"vocab_size": 203, "hidden_size": 72, "num_attention_heads": 2, "head_dim": 32, "max_position_embeddings": 128}
# kind, config, weights, dtype, programs for each head, and tokens of the prompt: 90 are more than warps load together
MODELS = {
    "one KV head for two, a row of three pieces": (
        "Llama", {**SMALL, "num_key_value_heads": 1, "intermediate_size": 520, "num_hidden_layers": 2},
        "plain", "bfloat16", 2, 8,
    ),
    "tied, four programs for its head": (
        "Llama",
        {**SMALL, "num_attention_heads": 1, "num_key_value_heads": 1, "intermediate_size": 40, "num_hidden_layers": 3,
         "tie_word_embeddings": True},
        "plain", "float16", 4, 8,
    ),
    "Qwen2's biases": (
        "Qwen2",
        {**SMALL, "hidden_size": 64, "num_key_value_heads": 2, "intermediate_size": 40, "num_hidden_layers": 1},
        "plain", "bfloat16", 1, 90,
    ),
    "GPT-2": (
        "GPT2", {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 128, "vocab_size": 203},
        "plain", "bfloat16", 2, 8,
    ),
    "int8, a row of two pieces": (
        "Llama",
        {**SMALL, "hidden_size": 64, "num_key_value_heads": 1, "intermediate_size": 528, "num_hidden_layers": 2},
        "int8", "bfloat16", 2, 8,
    ),
    "int8 with biases": (
        "GPT2", {"n_embd": 64, "n_layer": 1, "n_head": 2, "n_positions": 128, "vocab_size": 203},
        "int8", "bfloat16", 1, 8,
    ),
    "GPT-2 in float16, with more than it holds": (
        "GPT2",
        {"n_embd": 64, "n_layer": 1, "n_head": 2, "n_positions": 128, "vocab_size": 203, "tie_word_embeddings": False},
        "plain", "float16", 1, 8,
    ),
}  # fmt: skip
COMMON = {
    "PROGRAMS": 132, "WARPS": 10, "FETCHERS": 2, "SLOTS": 5, "OUTSIDE": 1, "LENGTH": 320,
    "VECTOR_WORDS": 4096, "PART_FLOATS": 1024, "OWN_FLOATS": 16, "BIAS_FLOATS": 64, "SCALE_FLOATS": 64,
    "LOWERED_FLOATS": 64, "WIDTH": 2048, "VOCABULARY": 50688, "GROUPS": 256,
}  # fmt: skip
COMPILED = {
    "Llama": {"HEADS": 32, "KV_HEADS": 4, "HEAD": 64, "INNER": 5632, "LAYERS": 22, "GATED": 1, "ROPE": 1,
              "LAYER_NORM": 0, "ACTIVATION": 1, "HALF": 0, "SPLITS": 2, "TRACE": 0, "WEIGHT_BYTES": 2, "PIECE": 2048},
    "GPT-2": {"HEADS": 16, "KV_HEADS": 16, "HEAD": 128, "INNER": 8192, "LAYERS": 24, "GATED": 0, "ROPE": 0,
              "LAYER_NORM": 1, "ACTIVATION": 3, "HALF": 1, "OUTSIDE": 0, "SPLITS": 1, "TRACE": 1, "WEIGHT_BYTES": 2,
              "PIECE": 2048},
    **{f"int8, {name}": {"HEADS": 32, "KV_HEADS": 4, "HEAD": 64, "INNER": 5632, "LAYERS": 22, "GATED": 1, "ROPE": 1,
                         "LAYER_NORM": 0, "ACTIVATION": 1, "HALF": half, "SPLITS": 4, "TRACE": 0, "WEIGHT_BYTES": 1,
                         "PIECE": 4096} for half, name in enumerate(("bfloat16", "float16"))},
}  # fmt: skip
WIDE = {  # rows as long as those of a model of 8 billion parameters
    how: {"HEADS": 32, "KV_HEADS": 8, "HEAD": 128, "INNER": 14336, "LAYERS": 32, "GATED": 1, "ROPE": 1, "LAYER_NORM": 0,
          "ACTIVATION": 1, "HALF": 0, "SPLITS": 2, "TRACE": 0, "WEIGHT_BYTES": size, "PIECE": 4096 // size,
          "WIDTH": 4096, "VECTOR_WORDS": 8192, "PART_FLOATS": 2048, "OWN_FLOATS": 32, "WARPS": warps,
          "FETCHERS": 12 - warps}
    for how, size, warps in (("plain", 2, 9), ("int8", 1, 8))
}  # fmt: skip
# by seeds of orders: with few pieces under way, and with all that there is room for
PACING = {(0, 1, 2, 3): {"waiting": 2, "working": 3, "together": 2, "awaited": 32},
          (4, 5): {"waiting": 64, "working": 64, "together": 1, "awaited": 1}}  # fmt: skip
PROGRAMS, PIECE_BYTES, SLOTS = 5, 512, 2
FORMS = ({"warps": 2, "fetchers": 1}, {"warps": 2, "fetchers": 2})


def on_cpu(source, architecture, macros):
    """In place of machine code: the name of a library."""
    sizes = {name: int(value) for name, value in macros.items()}
    library = FOLDER / f"layers-{len(list(FOLDER.glob('layers-*.so')))}.so"
    flags = [f"-D{name}={value}" for name, value in {**sizes, "SHARED_BYTES": 1 << 17}.items()]
    command = ["g++", "-std=c++20", "-O1", "-w", "-shared", "-fPIC", "-pthread", *flags, f"-I{sys.argv[1]}"]
    subprocess.run([*command, "-o", str(library), str(HERE / "resident_card_on_cpu.cpp")], check=True)
    return str(library)


class OnCpu:
    """In place of a kernel on a card. With a `seed` its threads take turns at random."""

    seed = 0

    def __init__(self, code, name, threads, shared_bytes, dependent):
        self.library = ctypes.CDLL(code)
        assert shared_bytes <= 1 << 17

    def launch(self, programs, argument):
        assert programs == PROGRAMS
        self.library.run(ctypes.byref(argument), OnCpu.seed)


def set_up():
    whole_of.programs_of_card = lambda: PROGRAMS
    whole_of.slots_of = lambda step, warps: SLOTS
    whole_of.architecture = lambda: "none"
    whole_of.compiled, whole_of.Kernel = on_cpu, OnCpu
    whole_of.FORMS, whole_of.MOST_PIECE_BYTES = FORMS, PIECE_BYTES


def saved(name, kind, settings):
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind + "Config")(**settings))
    with torch.no_grad():
        for own in model.parameters():
            spread = torch.randn_like(own)
            own.copy_(spread * 0.15 if own.dim() > 1 else 0.2 * spread + own)
        if "more than it holds" in name:  # of what norms are given times their gains; not of anything that is stored
            for place, own in model.named_parameters():
                own.mul_(1e4 if "wte" in place or "wpe" in place else 60 if "ln_" in place else 1)
                own.div_(60 if any(each in place for each in ("c_attn.weight", "c_fc.weight", "lm_head")) else 1)
    folder = FOLDER / "".join(each for each in name if each.isalnum())
    model.eval().save_pretrained(folder)
    return str(folder), model


def loaded(folder, weights, dtype, prompt, **sampling):
    job = {
        "model_folder": folder, "dtype": dtype, "device": "cpu", "threads": 2, "seed": 0, "prompts": [prompt],
        "options": {"weights": weights}, "requests": [{"request": 0}],
        "sampling": {"max_new_tokens": NEW, "temperature": 0.0, **sampling},
    }  # fmt: skip
    engine = take_engine("resident")
    engine.import_packages(job)
    engine.load(job)
    return engine, job


def of_models():
    """Each model's step by a kernel for each product, and by the one kernel, beside transformers in float32."""
    said = {}
    for name, (kind, settings, weights, dtype, splits, length) in MODELS.items():
        folder, model = saved(name, kind, settings)
        prompt = PROMPTS[length]
        engine, job = loaded(folder, weights, dtype, prompt, repetition_penalty=1.3)
        by_kernels, in_one = [], []
        engine.generate(Request(job, {"request": 0}), by_kernels.extend)
        forced = [*prompt, *by_kernels]
        with torch.no_grad():
            exact = torch.log_softmax(model(torch.tensor([forced])).logits[0, -NEW - 1 : -1].double(), -1).numpy()

        by_both = [engine.score_decode(forced, NEW).log_probs]
        reason = whole_of.reason_against(engine.step)
        whole = whole_of.Whole(engine.step, {"splits": splits, **FORMS[0], **PACING[0, 1, 2, 3]})
        for seeds, way in PACING.items():
            engine.step.whole = (whole if 0 in seeds else whole.formed(FORMS[1])).paced(way)
            engine.generating = type(engine.generating)(engine.prompts, engine.step, with_graph=False)
            for OnCpu.seed in seeds:
                by_both.append(engine.score_decode(forced, NEW).log_probs)
        engine.generate(Request(job, {"request": 0}), in_one.extend)
        OnCpu.seed = 0
        if not said:
            fallen_back = tried_in_vain(engine)
            evidence = seen_on_a_card(engine)
        said[name] = {
            "ids": by_kernels, "in_one": in_one, "reason": reason,
            "off": [float(abs(each - exact).max()) for each in by_both],
            "apart": float(abs(by_both[1] - by_both[0]).max()),
        }  # fmt: skip
    return said, evidence, fallen_back


def tried_in_vain(engine):
    """What the engine says and uses where the one kernel does nothing on its card."""
    whole, kernel, generating = engine.step.whole, engine.step.whole._kernel, engine.generating
    whole._kernel, knobs = SimpleNamespace(launch=lambda *_: None), {"timed": {"other": 1}}
    engine._try(knobs)
    said = {"timed": knobs["timed"], "by_kernels": engine.step.whole is None}
    whole._kernel, engine.step.whole, engine.generating = kernel, whole, generating
    return said


def seen_on_a_card(engine):
    """The engine's evidence where a profiler sees on a card what it launches in a step, and a graph that reads the
    prompt."""
    engine.timed_begins()
    engine.timed_ends()
    launched = {name: 3 for name, _ in engine.step.launches("asked")}
    prompts = engine.prompts
    prompts.graphs[FILLED_TO] = SimpleNamespace(read=lambda ids: prompts.kept(torch.tensor([ids])))

    def profiled(work):
        work()
        return {**launched, "cudaGraphLaunch": 3 + prompts.replays}

    torch_facts.profiled = profiled
    on_card, engine.step.on_gpu = {"device": "cuda", **engine.evidence(), "is_graph": True}, True
    return {**on_card, **engine.profile(), "prompts_replayed": prompts.replays}


def of_compiling(folder):
    """Machine code by NVRTC for a card that is not there, and what it says of a source that is wrong."""
    torch.version.cuda = "13.0"
    os.environ["TRITON_CACHE_DIR"] = str(folder)
    folder.mkdir()
    text = "\n".join(Path(sys.argv[1], name).read_text() for name in whole_of.SOURCES)
    said = {"has": {}, "spills": {}}
    for name, macros in COMPILED.items():
        code = kasoku_nvrtc.compiled(text, "sm_90", {**COMMON, **macros})
        said["has"][name] = b"resident_layers" in code
    logs, read = [], kasoku_nvrtc.read

    def with_log(program, *how):
        library = kasoku_nvrtc.found()
        logs.append(read(program, library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog).decode())
        return read(program, *how)

    kasoku_nvrtc.read = with_log
    for name, own in {"narrow": COMPILED["Llama"], **WIDE}.items():
        options = [f"-D{macro}={value}" for macro, value in {**COMMON, **own}.items()]
        options += ["--gpu-architecture=sm_90", "--std=c++17", "-default-device", "--ptxas-options=-v"]
        kasoku_nvrtc.compile_now(kasoku_nvrtc.found(), text, options)
        said["spills"][name] = [int(each) for each in re.findall(r"(\d+) bytes spill stores", logs[-1])]
    kasoku_nvrtc.read = read
    kept, kasoku_nvrtc.compile_now = kasoku_nvrtc.compile_now, None
    said["again"] = kasoku_nvrtc.compiled(text, "sm_90", {**COMMON, **macros}) == code
    kasoku_nvrtc.compile_now = kept
    try:
        kasoku_nvrtc.compiled("no source", "sm_90", {})
    except kasoku_nvrtc.CannotCompileError as error:
        said["wrong"] = str(error)
    try:
        Kernel(code, "resident_layers", 32, 1, dependent=False)
    except DriverError as error:
        said["no_driver"] = str(error)
    return said


def of_reasons():
    """Why models have no such kernel, on a card that had one."""
    torch.cuda.get_device_capability = lambda: (9, 0)
    said = {}
    for name, (kind, settings, weights, dtype) in {
        "none": ("Llama", {}, "plain", "bfloat16"),
        "float32": ("Llama", {}, "plain", "float32"),
        "float8": ("Llama", {}, "fp8", "bfloat16"),
        "Qwen3": ("Qwen3", {}, "plain", "bfloat16"),
        "heads": ("Llama", {"head_dim": 24}, "plain", "bfloat16"),
        "a width": ("Llama", {"intermediate_size": 44}, "plain", "bfloat16"),
    }.items():
        sizes = {**SMALL, "num_key_value_heads": 1, "intermediate_size": 40, "num_hidden_layers": 1, **settings}
        engine, _ = loaded(saved("reason" + name, kind, sizes)[0], weights, dtype, PROMPTS[8])
        engine.step.on_gpu = True
        said[name] = whole_of.reason_against(engine.step)
    return said


def of_choosing():
    """What is found, kept and said where forms of the kernel take so long; nothing is launched."""
    settings = {**SMALL, "intermediate_size": 40, "num_hidden_layers": 1}
    step = loaded(saved("choosing", "Llama", settings)[0], "plain", "bfloat16", PROMPTS[8])[0].step
    step.on_gpu = True
    whole_of.compiled, whole_of.Kernel = lambda *_: b"", lambda *_: None
    whole_of.PACING = {"waiting": (8, 4, 12), "working": (24, 16, 64), "together": (2, 1), "awaited": (32, 1)}
    timed, by_kernels = [], []

    def seconds(step):
        """Two programs a head are the fastest if one word is awaited, and the slowest if all are; so are two warps that
        fetch, 12 and 64 pieces. One way seems to be so when it is first looked at."""
        if step.whole is None:
            by_kernels.append(9.0)
            return 9.0
        division = step.whole.division
        timed.append(division)
        lucky = [*division.values()] == [2, 2, 2, 4, 16, 2, 1] and timed.count(division) == 1
        best = {"fetchers": 2, "waiting": 12, "working": 64}
        off = sum(division[name] != number for name, number in best.items())
        shared = {(1, 32): 0.4, (1, 1): 0.6, (2, 32): 0.8, (2, 1): 0.0}[division["splits"], division["awaited"]]
        return 0.5 if lucky else 1.0 + off + shared + division["together"] / 100

    tuning.seconds_of_step = seconds
    table = knobs_of.Table("a card")
    found = tuning.whole_tried(step, table)
    all_timed = len(timed)
    said = {"found": found, "timed": all_timed, "again": tuning.whole_tried(step, table), "in_use": step.whole.division}
    said["timed_again"] = len(timed) - all_timed
    step.whole = None
    for _ in range(2):
        said["tuned"] = tuning.tuned(step, "another card", with_whole=True)
        step.whole = None
    said["timed_by_kernels"] = len(by_kernels)

    def refuses(*_):
        raise kasoku_nvrtc.CannotCompileError("It cannot.")

    whole_of.compiled = refuses
    return {**said, "refused": tuning.whole_tried(step, table), "left": step.whole}


def of_options():
    """What is said of options that leave nothing to decide by."""
    engine = take_engine("resident")
    engine.import_packages({})
    try:
        engine.load({"options": {"whole": True, "tune": False}})
    except UnsupportedError as error:
        return str(error)


def main():
    compiling = of_compiling(FOLDER / "cache")
    set_up()
    models, evidence, fallen_back = of_models()
    said = {"models": models, "evidence": evidence, "fallen_back": fallen_back}
    said |= {"options": of_options(), "reasons": of_reasons(), "choosing": of_choosing()}
    print(json.dumps({**said, "compiling": compiling}))


main()
