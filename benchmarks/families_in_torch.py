# mypy: ignore-errors
"""What benchmarks/families.py runs in an environment with torch: makes tiny models, has the runner's engine run them.

PYTHON -I benchmarks/families_in_torch.py make FOLDER [FAMILY…]     a folder per family, or a line that says why not
PYTHON -I benchmarks/families_in_torch.py run RUNNER < LINES        a line of JSON per line {"family", "folder", …}
"""

import contextlib
import copy
import json
import sys
import time
from pathlib import Path

VOCABULARY, PROMPT, NEW, LONG = 272, list(range(3, 11)), 6, 40
TINY = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_size", "word_embed_proj_dim"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), 4),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads"), 4
    ),
    **dict.fromkeys(("encoder_attention_heads",), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "kv_channels", "global_head_dim", "attention_head_dim"), 16),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "decoder_ffn_dim", "encoder_ffn_dim"), 128),
    **dict.fromkeys(("shared_expert_intermediate_size", "shared_intermediate_size", "ffn_hidden_size"), 64),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "top_k", "moe_k", "num_experts_per_token"), 2),
    **dict.fromkeys(("n_group", "n_shared_experts", "first_k_dense_replace", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "src_vocab_size"), VOCABULARY),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"), 512),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "lora_rank", "decay_low_rank_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("sliding_window", "attention_window", "window_size"), 32),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "hidden_size_per_layer_input"), 16),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("mamba_d_state", "state_size", "mamba_d_ssm", "ssm_state_size", "mamba_state_dim"), 16),
    **dict.fromkeys(("lru_width", "attention_hidden_size", "time_step_rank", "mamba_dt_rank"), 64),
    "altup_num_inputs": 2, "laurel_rank": 8, "num_kv_shared_layers": 0, "mamba_expand": 2, "expand": 2,
    "mamba_n_groups": 1, "n_groups": 1, "chunk_size": 16, "mamba_chunk_size": 16, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 8, "topk_group": 1,
    "num_nextn_predict_layers": 0,
}  # fmt: skip
# Where the sizes above do not fit together, or the kind asks for more.
OWN = {
    "falcon": {"multi_query": True, "new_decoder_architecture": False},
    "gpt_bigcode": {"multi_query": True},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 32},
    "gpt_neox": {"rotary_pct": 0.5, "rotary_emb_base": 50000},
    "phi": {"partial_rotary_factor": 0.5},
    "persimmon": {"partial_rotary_factor": 0.5},
    "stablelm": {"partial_rotary_factor": 0.5},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 16, "hidden_size": 64, "expand": 2},
    "mamba": {"intermediate_size": 128, "time_step_rank": 4},
    "falcon_mamba": {"intermediate_size": 128, "time_step_rank": 4},
    "gemma3n_text": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2,
                     "activation_sparsity_pattern": [0.0] * 4, "intermediate_size": [128] * 4},
    "gemma4_text": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "mpt": {"max_seq_len": 512},
    "opt": {"word_embed_proj_dim": 64},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "bamba": {"attn_layer_indices": [1, 3]},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "attention_window_size": 32},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "llama4_text": {"intermediate_size_mlp": 128, "interleave_moe_layer_step": 1},
    "phi3": {"pad_token_id": 0},
    "xlstm": {"num_blocks": 2, "num_heads": 4},
    "deepseek_v3": {"num_key_value_heads": 4}, "deepseek_v2": {"num_key_value_heads": 4},
    "zamba2": {"mamba_ngroups": 1, "n_mamba_heads": 8, "mamba_headdim": 16, "hybrid_layer_ids": [1, 3],
               "layers_block_type": ["mamba", "hybrid"] * 2, "adapter_rank": 8},
    "nemotron_h": {"hybrid_override_pattern": "M*M-"},
    "olmo3": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "rwkv": {"attention_hidden_size": 64, "intermediate_size": 128, "rescale_every": 0},
    "bloom": {"slow_but_exact": False},
}  # fmt: skip


# Those that are tried: what people run, what the article's transformers knows too, and one of each kind of cache.
FAMILIES = (
    *("gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "codegen", "opt", "bloom", "mpt", "falcon", "llama"),
    *("mistral", "persimmon", "biogpt", "xglm", "openai-gpt", "ctrl", "rwkv", "phi", "phi3", "stablelm", "qwen2"),
    *("qwen3", "gemma", "gemma2", "gemma3_text", "gemma3n_text", "gemma4_text", "olmo", "olmo2", "olmo3", "cohere"),
    *("cohere2", "granite", "glm", "glm4", "starcoder2", "nemotron", "smollm3", "exaone4", "helium", "ernie4_5"),
    *("seed_oss", "hunyuan_v1_dense", "arcee", "bitnet", "lfm2", "mamba", "mamba2", "falcon_mamba", "recurrent_gemma"),
    *("bamba", "jamba", "qwen3_next", "qwen3_5_text", "minimax", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe"),
    *(
        "deepseek_v2",
        "deepseek_v3",
        "gpt_oss",
        "granitemoehybrid",
        "falcon_h1",
        "zamba2",
        "nemotron_h",
        "modernbert-decoder",
    ),
)


def said(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (type(error).__name__ + ": " + (lines[0] if lines else ""))[:200]


def make(folder, wanted):
    """Every family's folder below `folder`, and {family: why it is not there}."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    transformers.logging.set_verbosity_error()
    failed = {}
    for family in wanted or FAMILIES:
        try:
            kind = CONFIG_MAPPING[family]
            known = {name for each in kind.__mro__ for name in getattr(each, "__annotations__", {})}
            given = {name: value for name, value in TINY.items() if name in known}
            config = kind(**{**given, **OWN.get(family, {})})
            with torch.device("meta"):
                size = sum(each.numel() for each in transformers.AutoModelForCausalLM.from_config(config).parameters())
            if size > 10_000_000:
                raise ValueError(f"its config has no sizes that make it small: {size // 10**6} million parameters")
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(config)
            for each in model.parameters():  # what begins as nothing but zeros or ones would hide what is not read
                if each.is_floating_point():
                    each.data += 0.02 * torch.randn_like(each)
            model.to(torch.float32).save_pretrained(folder / family)
        except Exception as error:
            failed[family] = said(error)
    return failed


class Emit:
    def __init__(self):
        self.ids = []
        self.fetch = None
        self.marks = 0

    def __call__(self, ids):
        self.flush()
        self.ids += ids

    def mark(self, fetch):
        self.fetch, self.marks = fetch, self.marks + 1

    def flush(self):
        if self.marks:
            self.ids += self.fetch(self.marks)
            self.marks = 0


def job_of(folder, options):
    sampling = {"max_new_tokens": NEW, "stop_token_ids": [], "temperature": 0.0, "top_p": 1.0, "top_k": 0}
    return {
        "engine": "transformers", "options": options, "model_folder": folder, "dtype": "float32", "device": "cpu",
        "gpu_uuids": [], "threads": 1, "seed": 1, "prompts": [PROMPT], "trust_remote_code": False,
        "sampling": {**sampling, "repetition_penalty": 1.0}, "context_length": 512,
    }  # fmt: skip


def run_engine(folder, options):
    """(the engine, what it loaded, the ids of two requests) by the runner's own calls."""
    import kasoku_engine

    job = job_of(folder, options)
    engine = kasoku_engine.take_engine("transformers")
    engine.import_packages(job)
    loaded = engine.load(job)
    ids = []
    engine.timed_begins()
    for number in range(2):
        request = kasoku_engine.Request(job, {"request": number, "seed": 1})
        emit = Emit()
        engine.prepare(request)
        engine.generate(request, emit)
        emit.flush()
        ids.append(emit.ids)
    engine.timed_ends()
    return engine, loaded, ids


def cache_of(output):
    """(name, cache) of what a step hands on; (None, None) of a model without one."""
    names = ("cache", "past_key_values", "cache_params", "state")
    return next(((name, output[name]) for name in names if output.get(name) is not None), (None, None))


def read_by_poison(model):
    """Bytes of the weights without which a decoding step has other logits.

    Of an embedding only a row that nobody looks up is spoilt: it shows where the output layer shares it.
    """
    import torch
    from kasoku_token_reads import bytes_of, weights_of

    ids = torch.tensor([PROMPT])
    with torch.no_grad():
        name, cache = cache_of(model(input_ids=ids, use_cache=True))

        def logits():
            """Of two steps: what the first only writes into a state shows in the second."""
            if name is None:  # it has no cache, and reads all it knows again
                return model(input_ids=ids).logits
            handed, found = copy.deepcopy(cache), []
            for number in (1, 2):
                given = {"attention_mask": torch.ones(1, len(PROMPT) + number, dtype=torch.long)}
                given = {name: handed, **({} if name == "state" else given)}
                output = model(input_ids=torch.tensor([[19 + number]]), use_cache=True, **given)
                handed = cache_of(output)[1]
                found.append(output.logits)
            return torch.cat(found)

        sound = logits()
        if not torch.equal(sound, logits()):
            raise ValueError("its logits are not the same twice")
        looked_up = {module.weight.data_ptr() for module in model.modules() if isinstance(module, torch.nn.Embedding)}
        total = 0
        for tensor in weights_of(model):
            if not tensor.is_floating_point():
                continue
            part = tensor[-1:] if tensor.data_ptr() in looked_up else tensor
            kept = part.detach().clone()
            part.data.fill_(float("nan"))
            total += bytes_of(tensor) * (not torch.equal(sound, logits()))
            part.data.copy_(kept)
    return total


def cache_by_generating(engine):
    """(positions, bytes of the cache without convolutions' columns) after a long response."""
    import torch
    from kasoku_cache import held, layers_of
    from kasoku_token_reads import bytes_of, tensors_in

    outputs = []
    model = engine.bare_model
    hook = model.register_forward_hook(lambda _module, _given, output: outputs.append(output) or None)
    try:
        config = engine.transformers.GenerationConfig(
            max_new_tokens=LONG, do_sample=False, use_cache=True, pad_token_id=0
        )
        ids = torch.tensor([PROMPT])
        own, model.generation_config = model.generation_config, config
        model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        model.generation_config = own
    finally:
        hook.remove()
    cache = cache_of(outputs[-1])[1]
    total = 0
    for layer in [] if cache is None else layers_of(cache):
        if hasattr(layer, "__dict__"):
            convolutions = {id(each) for each in (getattr(layer, "conv_states", None) or {}).values()}
            total += sum(bytes_of(each) for each in held(layer) if id(each) not in convolutions)
        else:
            total += sum(map(bytes_of, tensors_in(layer)))
    return len(PROMPT) + LONG - 1, total


def examine(entry):
    """One family: {what was tried: what came of it}, an error as its sentence under `…_error`."""
    found = {"family": entry["family"]}
    began = time.monotonic()
    try:
        engine, loaded, ids = run_engine(entry["folder"], {})
        found.update(ids=ids, loaded=loaded)
        parts = {
            "evidence": lambda: {**engine.evidence(), **engine.profile()},
            "weights": lambda: read_by_poison(engine.bare_model),
            "cache": lambda: cache_by_generating(engine),
            "again": lambda: run_engine(entry["folder"], {})[2],
            "static": lambda: static(entry["folder"]),
        }
        for name in entry["parts"]:
            try:
                found[name] = parts[name]()
            except Exception as error:
                found[name + "_error"] = said(error)
    except Exception as error:
        import kasoku_failure

        found.update(error=kasoku_failure.sentence_of(error), kind=kasoku_failure.kind_of(error))
    found["seconds"] = round(time.monotonic() - began, 1)
    return found


def static(folder):
    engine, _, ids = run_engine(folder, {"cache": "static"})
    engine.evidence()
    memory = engine.memory()
    return {"ids": ids, "bytes": memory["kv_reserved_bytes"], "reason": memory["missing"].get("kv_reserved_bytes", "")}


if __name__ == "__main__":
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        if sys.argv[1] == "make":
            json.dump(make(Path(sys.argv[2]), sys.argv[3:]), out)
        else:
            sys.path.insert(0, sys.argv[2])
            for line in sys.stdin:
                out.write(json.dumps(examine(json.loads(line)), default=str) + "\n")
                out.flush()
