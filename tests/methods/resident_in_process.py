# mypy: ignore-errors
"""What test_resident.py runs once in an environment with torch and Triton: the engine on tiny models, on the CPU.

    PYTHON -I resident_in_process.py RUNNER FOLDER > RESULT.json

Triton's interpreter runs the kernels (TRITON_INTERPRET=1), one program after another.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy
import torch
import transformers

sys.path.insert(0, sys.argv[1])

import kasoku_resident_state as places
from kasoku_engine import Request, UnsupportedError, take_engine
from kasoku_resident_choice import BINS, resident_draw, resident_narrow
from kasoku_resident_prompt import Prompts
from kasoku_resident_shape import GPT2, LLAMA
from kasoku_resident_shortlist import resident_pick
from kasoku_resident_unpacking import unpacked
from kasoku_resident_weights import Matrix, stored

FOLDER = Path(sys.argv[2])
SIZES = {"vocab_size": 203, "num_hidden_layers": 1, "max_position_embeddings": 128, "intermediate_size": 100}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16, "rope_theta": 10000.0,
}  # fmt: skip
MODELS = {
    "one KV head, tied, 72 wide": (
        "Llama",
        {"hidden_size": 72, "num_attention_heads": 6, "num_key_value_heads": 1, "head_dim": 12,
         "tie_word_embeddings": True},
    ),
    "untied, scaled rope": (
        "Llama",
        {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
         "num_hidden_layers": 2,
         "rope_parameters": LLAMA3},
    ),
    "Qwen2's biases": ("Qwen2", {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}),
    "Qwen3's norms": (
        "Qwen3",
        {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24},
    ),
    "GPT-2": ("GPT2", {"n_embd": 72, "n_layer": 1, "n_head": 4, "n_positions": 128, "vocab_size": 203}),
}  # fmt: skip
UNSUPPORTED = {
    "a config that multiplies": ("Granite", {"embedding_multiplier": 12.0, "logits_scaling": 8.0}),
    "a config that caps": ("Gemma2", {"head_dim": 16}),
    "experts": ("Mixtral", {"num_local_experts": 2}),
    "no attention": ("Mamba", {}),
    "a window that is too short": ("Mistral", {"sliding_window": 8}),
    "too few positions": ("GPT2", {"n_positions": 10, "n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 203}),
    "another norm": ("Gemma", {"head_dim": 16, "hidden_activation": "silu"}),
    "the same parts, put together otherwise": ("Helium", {"head_dim": 16}),
}
PROMPT = [5, 7, 11, 13, 17, 19, 23, 29]
NEW = 4
TINY_VOCABULARY, DRAWS = 16, 200
# programs that go through many rows, the last one beyond the matrix
TURNING = {role: {"rows": 4, "turns": 3} for role in ("mlp", "head")}


def saved(name, kind, settings):
    """A model of random weights in a folder of its own, large enough that they matter; (its folder, the model)."""
    torch.manual_seed(7)
    sizes = settings if kind == "GPT2" else {**SIZES, **settings}
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind + "Config")(**sizes))
    with torch.no_grad():
        for own in model.parameters():
            spread = torch.randn_like(own)
            own.copy_(spread * 0.15 if own.dim() > 1 else 0.2 * spread + own)
    folder = FOLDER / name.replace(" ", "-").replace(",", "").replace("'", "")
    model.eval().save_pretrained(folder)
    return str(folder), model


def loaded(folder, weights="plain", knobs=None, prompt=PROMPT, new=NEW, dtype="float32", **sampling):
    """An engine with the model in `folder`, and its job."""
    job = {
        "model_folder": folder, "dtype": dtype, "device": "cpu", "threads": 2, "seed": 0, "prompts": [prompt],
        "options": {"weights": weights, "knobs": knobs or {}}, "requests": [{"request": 0}],
        "sampling": {"max_new_tokens": new, "temperature": 0.0, **sampling},
    }  # fmt: skip
    engine = take_engine("resident")
    engine.import_packages(job)
    engine.resolved = engine.load(job)["resolved"]
    return engine, job


def generated(engine, job, seed=0):
    """(ids, how it ended)."""
    ids = []
    return ids, engine.generate(Request(job, {"request": 0, "seed": seed}), ids.extend)


def by_transformers(model, **settings):
    settings = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, **settings}
    return model.generate(torch.tensor([PROMPT]), **settings)[0, len(PROMPT) :].tolist()


def of_models():
    """Each model, by the step and by transformers, in float32."""
    said = {}
    for name, (kind, settings) in MODELS.items():
        folder, model = saved(name, kind, settings)
        engine, job = loaded(folder, knobs=TURNING if kind == "GPT2" else None)
        ids, finish = generated(engine, job)
        forced = [*PROMPT, *ids]
        with torch.no_grad():
            exact = torch.log_softmax(model(torch.tensor([forced])).logits[0, -NEW - 1 : -1].double(), -1).numpy()
        said[name] = {
            "ids": ids,
            "finish": finish,
            "theirs": by_transformers(model),
            "differs": float(abs(engine.score_decode(forced, NEW).log_probs - exact).max()),
            "differs_in_prefill": float(abs(engine.score_prefill(forced, NEW).log_probs - exact).max()),
            "greedy": engine.greedy(PROMPT),
            "best_two": [float(row[-1] - row[-2]) for row in numpy.sort(exact, axis=-1)],
        }
    return said


def of_one_model():
    """What one model is enough for."""
    name = "one KV head, tied, 72 wide"
    folder, model = str(FOLDER / "one-KV-head-tied-72-wide"), None
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    plain, job = loaded(folder)
    ids, _ = generated(plain, job)
    forced = [*PROMPT, *ids]
    whole = plain.score_decode(forced, NEW).log_probs
    # tiles and parts that end within a row, a matrix, and a part
    knobs = {role: {"rows": 4, "tile": 32} for role in ("qkv", "out", "mlp", "down", "head")}
    knobs["attention"] = {"block": 4, "splits": 4, "members": 1, "together": 2}
    divided, its_job = loaded(folder, knobs=knobs)
    turning, turning_job = loaded(folder, knobs=TURNING)
    stopping, stop_job = loaded(folder, stop_token_ids=[202, ids[0]])
    short, short_job = loaded(folder, prompt=PROMPT[:1])
    penalised, penalty_job = loaded(folder, repetition_penalty=0.2)
    said = {
        "model": name,
        "config": plain.resolved["config"],
        "divided": float(abs(divided.score_decode(forced, NEW).log_probs - whole).max()),
        "divided_ids": generated(divided, its_job)[0],
        "turning": float(abs(turning.score_decode(forced, NEW).log_probs - whole).max()),
        "turning_ids": generated(turning, turning_job)[0],
        "ids": ids,
        "again": [generated(plain, job)[0] for _ in range(2)],
        "at_first": generated(stopping, stop_job),
        "after_a_stop": generated(stopping, stop_job),
        "one_id": generated(short, short_job)[0],
        "one_id_theirs": model.generate(
            torch.tensor([PROMPT[:1]]), max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0
        )[0, 1:].tolist(),
        "penalised": generated(penalised, penalty_job)[0],
        "penalised_theirs": by_transformers(model, repetition_penalty=0.2),
        "greedy_of_penalised": penalised.greedy(PROMPT)["ids"],
        "weights": {},
        "memory": plain_memory(plain),
    }
    for how in ("int8", "fp8"):
        engine, its_job = loaded(folder, weights=how)
        decode, prefill = engine.score_decode(forced, NEW).log_probs, engine.score_prefill(forced, NEW).log_probs
        said["weights"][how] = {
            "paths_differ": float(abs(decode - prefill).max()),
            "off": float(abs(decode - whole).max()),
            "bytes": engine.weights.read_each_token(),
            "plain_bytes": plain.weights.read_each_token(),
            "evidence": evidence_of(engine, its_job),
            "config": engine.resolved["config"],
        }
    said["evidence"] = evidence_of(plain, job)
    bfloat16, _ = loaded(folder, dtype="bfloat16")
    said["bfloat16_off"] = float(abs(bfloat16.score_decode(forced, NEW).log_probs - whole).max())
    said["bfloat16_prefill_off"] = float(abs(bfloat16.score_prefill(forced, NEW).log_probs - whole).max())
    return said


def plain_memory(engine):
    engine.timed_begins()
    engine.timed_ends()
    return {name: value for name, value in engine.memory().items() if name != "peak_rss_bytes"}


def evidence_of(engine, job):
    engine.timed_begins()
    generated(engine, job)
    engine.timed_ends()
    return {"device": "cpu", **engine.evidence(), **engine.profile()}


class Rerun:
    """What stands in for a CUDA graph: what was captured once is done again, in the same memory."""

    def __init__(self, prompts, length, other):
        self.prompts, self.ids, self.other = prompts, torch.zeros((1, length), dtype=torch.long), other
        self.cache = [tuple(each.clone() for each in pair) for pair in prompts.kept(self.ids)]

    def read(self, ids):
        self.ids[0, : len(ids)] = torch.tensor(ids)
        for mine, theirs in zip(self.cache, self.prompts.kept(self.ids), strict=True):
            for each, new in zip(mine, theirs, strict=True):
                each.copy_(new)
        return self.cache


class Waits(Rerun):
    """A model whose kernels cannot be captured."""

    def __init__(self, prompts, length, other):
        raise RuntimeError("called a synchronizing CUDA operation\nand more")


class Swaps(Rerun):
    """One that reads something else."""

    def read(self, ids):
        return super().read(ids[::-1])


def of_prompts():
    """Prompts of many lengths read as by graphs, beside transformers' own keys and values."""
    said = {}
    for name, layout in (("untied, scaled rope", LLAMA), ("GPT-2", GPT2)):
        folder = str(FOLDER / name.replace(" ", "-").replace(",", ""))
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        prompts = Prompts(model, layout)
        said[name] = {"captured": prompts.capture([7, 31, 0, 33, 64, 97, 130, 2000], Rerun)}
        said[name]["shared"] = [graph.other is not None for graph in prompts.graphs.values()]
        replays, off = prompts.replays, []
        for length in (7, 33, 31, 64, 65, 1):
            ids = [(3 + 31 * place) % 203 for place in range(length)]
            exact = prompts.kept(torch.tensor([ids]))
            read = prompts.read(ids)
            assert [each.shape for pair in read for each in pair] == [each.shape for pair in exact for each in pair]
            for mine, theirs in zip(read, exact, strict=True):
                off += [float((one - other).abs().max()) for one, other in zip(mine, theirs, strict=True)]
        said[name].update(off=max(off), replays=prompts.replays - replays)
    for name, fault in (("waits", Waits), ("swaps", Swaps)):
        without = Prompts(model, GPT2)
        said[name] = [without.capture([7, 40], fault), len(without.graphs), len(without.read([1, 2])[0])]
    many = Prompts(model, GPT2)
    many.positions = 1024  # captured, not run
    many._capture = lambda length, captured: many.graphs.update({length: None})
    said["many"] = many.capture(range(1000), Rerun)
    return said


def of_what_is_unsupported():
    said = {}
    for name, (kind, settings) in UNSUPPORTED.items():
        small = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16}
        folder, _ = saved(name, kind, {**({} if kind == "GPT2" else small), **settings})
        try:
            loaded(folder)
            said[name] = ""
        except UnsupportedError as error:
            said[name] = str(error)
    return said


def scored(logits):
    """(the state once these logits are there, the best of their groups, they themselves)."""
    state = torch.zeros(places.SIZE, dtype=torch.int64)
    state[places.CUT] = places.EVERYTHING
    scores = torch.tensor(logits, dtype=torch.float32)
    bests = torch.full((places.GROUPS,), places.LOWEST, dtype=torch.int64)
    for place, bits in enumerate(scores.view(torch.int32).tolist()):
        rank = ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) << 32) | (0x7FFFFFFF - place)
        group = place // 3 % places.GROUPS
        bests[group] = max(int(bests[group]), rank)
    return state, bests, scores


def drawn(logits, seeds, top_k=0, top_p=1.0, temperature=1.0):
    """The ids that the kernels draw from these logits, one for each seed."""
    state, bests, scores = scored(logits)
    histogram = torch.zeros(BINS, dtype=torch.int64)
    how = {"VOCABULARY": len(logits), "BLOCK": 8, "PDL": False}
    grid = (-(-len(logits) // 8),)
    for by_mass, asked in ((False, top_k), (True, top_p)):
        for fine in (False, True) if (asked < 1 if by_mass else asked > 0) else ():
            resident_narrow[grid](
                state, bests, scores, histogram, temperature, float(asked), BY_MASS=by_mass, FINE=fine, **how
            )
    assert not histogram.any()
    ids, whole = [], {**how, "BLOCK": 1 << (len(logits) - 1).bit_length()}
    for seed in seeds:
        state[places.DRAWN], state[places.SEED] = places.LOWEST, seed
        resident_draw[(1,)](state, bests, scores, temperature, **whole)
        ids.append(0x7FFFFFFF - (int(state[places.DRAWN]) & 0xFFFFFFFF))
    return ids


def drawn_from_a_list(logits, seeds, top_k, top_p=1.0, temperature=1.0):
    """The same by the kernel that lists what top-k keeps."""
    state, bests, scores = scored(logits)
    listed, listed_ids, ids = torch.zeros(len(logits)), torch.zeros(len(logits), dtype=torch.int32), []
    how = {"VOCABULARY": len(logits), "BLOCK": 8, "PDL": False, "WIDTH": 2, "PADDED": 2, "STOPS": 1, "LEARNED": False}
    how.update(HEAD=2, DIMS=2, ROPE=False)
    ring, x, nothing = torch.zeros(1, dtype=torch.int32), torch.zeros(2), torch.zeros(1, dtype=torch.int64)
    embeddings = torch.arange(2 * len(logits), dtype=torch.float32)
    after = (ring, nothing, nothing - 1, torch.zeros(len(logits), dtype=torch.int8), embeddings, x, x, x, x, x)
    grid = (-(-len(logits) // 8),)
    for seed in seeds:
        begun, best = state.clone(), bests.clone()
        state[places.DRAWN], state[places.SEED], state[places.LIMIT] = places.LOWEST, seed, 2
        resident_pick[grid](
            state, bests, scores, listed, listed_ids, temperature, top_k, top_p, *after, BY_MASS=top_p < 1, **how
        )  # fmt: skip
        ids.append(int(ring[0]))
        assert state[places.STEP] == begun[places.STEP] + 1, "it goes on"
        assert x.tolist() == [2.0 * ids[-1], 2.0 * ids[-1] + 1], "with its embedding"
        assert (bests == places.LOWEST).all(), "and leaves nothing for the next step"
        state.copy_(begun)
        bests.copy_(best)
    return ids


def of_sampling():
    logits = [1.0 - 0.31 * place for place in range(TINY_VOCABULARY)]
    logits[9] = logits[4]  # as likely as each other
    cases = {
        "all": {},
        "top-k": {"top_k": 5},
        "top-p": {"top_p": 0.8},
        "top-k and top-p": {"top_k": 8, "top_p": 0.7, "temperature": 1.3},
        "the best alone": {"top_p": 1e-6},
    }
    ids = {name: drawn(logits, range(20 if name == "the best alone" else DRAWS), **how) for name, how in cases.items()}
    long_list = [2.0] + [1.0] * 160 + [0.9] * 15  # more of a score than are taken at a time, and all of them kept
    both = {}
    for name, (scores, how) in {
        "top-k": (logits, cases["top-k"]),
        "top-k and top-p": (logits, cases["top-k and top-p"]),
        "more than are asked for": (long_list, {"top_k": 3, "top_p": 0.8}),
    }.items():
        both[name] = [way(scores, range(30), **how) for way in (drawn, drawn_from_a_list)]
    return {"logits": logits, "drawn": {name: [ids[name], how] for name, how in cases.items()}, "both": both}


def of_sampled_responses():
    """Whole responses with everything asked for: the same by the same seed, others by another."""
    folder = str(FOLDER / "one-KV-head-tied-72-wide")
    engine, job = loaded(folder, temperature=0.9, top_k=20, top_p=0.9, repetition_penalty=1.1)
    engine.timed_begins()
    return [generated(engine, job, seed)[0] for seed in (1, 2, 1)]


def of_rounding():
    """How far rows that were rounded are from what they were, in steps of their row's scale."""
    torch.manual_seed(3)
    rows = torch.randn(9, 50) * torch.logspace(-3, 3, 9)[:, None]
    rows[4] = 0
    kept, scales = stored(rows, "int8")
    back = (kept.float() - 128) * scales[:, None]
    float8, its_scales = stored(rows, "fp8")
    its_back = float8.float() * its_scales[:, None]
    return {
        "int8_steps": float(((back - rows).abs() / scales[:, None]).max()),
        "fp8_relative": float(((its_back - rows).abs() / rows.abs().amax(1, keepdim=True).clamp(min=1e-30)).max()),
        "a_row_of_zeros": float(back[4].abs().max() + its_back[4].abs().max()),
        "unpacked": [unpacks(rows, how) for how in ("int8", "fp8")],
    }


def unpacks(rows, how):
    """Whether numbers come back as scales say: all rows, every other one, and a few. Exact in float32; the interpreter
    cuts off where a card rounds to bfloat16."""
    matrix = Matrix(*stored(rows, how), None)
    whole = matrix.weights.float() - (128.0 if how == "int8" else 0.0)
    exact = whole * matrix.scales[:, None]
    slices = (slice(None), slice(1, None, 2), slice(2, 5))
    in_bfloat16 = unpacked(matrix, slices[1], torch.bfloat16).float() - exact[slices[1]]
    is_near = bool((in_bfloat16.abs() <= exact[slices[1]].abs() * 2**-7).all())
    return is_near and all(torch.equal(unpacked(matrix, each, torch.float32), exact[each]) for each in slices)


def patch_once():
    """Triton's interpreter puts its own functions into Triton's modules at every call of a kernel, or of a function in
    one, which takes most of its time: once for each module is enough here, where nothing is compiled."""
    from triton.runtime import interpreter

    patch, patched = interpreter._patch_lang, set()

    def once(function):
        if id(function.__globals__) not in patched:
            patched.add(id(function.__globals__))
            patch(function)
        return SimpleNamespace(restore=lambda: None)

    interpreter._patch_lang = once


def main():
    patch_once()
    transformers.logging.set_verbosity_error()
    found = {
        "models": of_models(),
        "one": of_one_model(),
        "prompts": of_prompts(),
        "unsupported": of_what_is_unsupported(),
        "sampling": of_sampling(),
        "responses": of_sampled_responses(),
        "rounding": of_rounding(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
