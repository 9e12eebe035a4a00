"""The generation config of transformers that a job's settings make."""

from __future__ import annotations

import copy

import kasoku_quantised_cache as quantised_cache
from kasoku_engine import UnsupportedError


def made(transformers: object, job: dict, model: object, options: dict) -> object:
    """The job's settings; of the model's own only its kind of cache, if the options name none."""
    sampling = job["sampling"]
    stop_token_ids = list(sampling.get("stop_token_ids") or ())
    settings = {
        "max_new_tokens": sampling["max_new_tokens"],
        "do_sample": sampling.get("temperature", 0) > 0,
        "repetition_penalty": sampling.get("repetition_penalty") or 1.0,
        "eos_token_id": stop_token_ids or None,
        "pad_token_id": stop_token_ids[0] if stop_token_ids else 0,
        "bos_token_id": model.generation_config.bos_token_id,
        "use_cache": uses_cache(model, options),
    }
    if settings["do_sample"]:
        settings.update(
            temperature=float(sampling["temperature"]),
            top_p=float(sampling.get("top_p") or 1.0),
            top_k=int(sampling.get("top_k") or 0),
        )
    config = transformers.GenerationConfig(**settings)
    for name, value in cache_settings(transformers, job, model, options).items():
        setattr(config, name, value)  # 4.48's constructor takes no static cache
    return config


def uses_cache(model: object, options: dict) -> bool:
    """True, but where the method set it at load: then what became of that, for a model's own settings may win."""
    if "use_cache" in (options.get("load_arguments") or {}):
        return bool(model.generation_config.use_cache)
    return True


def cache_settings(transformers: object, job: dict, model: object, options: dict) -> dict:
    if options.get("quantised_cache"):
        return quantised_cache.settings(options["quantised_cache"])
    wanted = options.get("cache")
    compiled = options.get("compile") == "decode"
    if compiled:
        wanted = "static"
    elif wanted is None:
        wanted = getattr(model.generation_config, "cache_implementation", None)
    if wanted in (None, "dynamic"):
        return {}
    if not hasattr(transformers.GenerationConfig(), "cache_implementation"):
        raise UnsupportedError("transformers %s has no %s cache." % (transformers.__version__, wanted))
    settings = {"cache_implementation": wanted}
    if compiled:
        settings.update(compile_settings(transformers, job, options))
    elif options.get("cache") == "static":
        settings["disable_compile"] = True
    lengths = {len(prompt) for prompt in job["prompts"]}
    if wanted == "static" and len(lengths) > 1:
        # One size for all prompts, so that a longer one does not compile the decode step again.
        settings["max_cache_len"] = max(lengths) + job["sampling"]["max_new_tokens"] - 1
    return settings


def compile_settings(transformers: object, job: dict, options: dict) -> dict:
    if not hasattr(transformers.PreTrainedModel, "get_compiled_call"):
        raise UnsupportedError(
            "transformers %s does not compile its decode step; 4.48 and later do." % transformers.__version__
        )
    from transformers.generation.configuration_utils import CompileConfig

    on_cuda = job.get("device", "cpu") == "cuda"
    arguments = dict(options.get("compile_options") or {})
    if on_cuda and not arguments:
        return {}  # transformers compiles by itself there
    config = CompileConfig(**arguments)
    if not on_cuda:
        config._compile_all_devices = True
    return {"compile_config": config}


def greedy(config: object) -> object:
    """The same without sampling and penalties."""
    config = copy.deepcopy(config)
    config.do_sample = False
    config.repetition_penalty = config.temperature = config.top_p = 1.0
    config.top_k = 50  # transformers' default: it warns of any other without sampling
    return config


def sampling(config: object) -> dict:
    """What it says of sampling, by name."""
    names = ("do_sample", "temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens", "eos_token_id")
    unused = () if config.do_sample else ("temperature", "top_p", "top_k")
    return {name: getattr(config, name) for name in names if name not in unused}
