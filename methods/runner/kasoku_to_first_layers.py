"""The job `to-first-layers`: the first layers of a model as a model of its own, to draft for it.

{"source": a model's folder, "folder": made here, "dtype": "bfloat16", "share": 0.25 of the layers, at least one}

Embeddings, the last norm and the output layer are the model's own. The result says how many `layers` of how many.
"""

from __future__ import annotations

from kasoku_failure import UnsupportedError


def run(job: dict, wire: object) -> None:
    wire.progress("to-first-layers", "importing transformers")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(job["source"], local_files_only=True, trust_remote_code=False)
    text = config.get_text_config()
    layers = getattr(text, "num_hidden_layers", None)
    if not isinstance(layers, int) or layers < 2:
        raise UnsupportedError("A model of %s layers has no first layers that could draft for it." % layers)
    kept = max(1, round(layers * job["share"]))
    text.num_hidden_layers = kept
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:kept]
    wire.progress("to-first-layers", "reading %d of %d layers" % (kept, layers))
    model = AutoModelForCausalLM.from_pretrained(
        job["source"],
        config=config,
        dtype=getattr(torch, job["dtype"]),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    wire.progress("to-first-layers", "writing safetensors")
    model.save_pretrained(job["folder"])
    wire.result({"layers": kept, "of": layers})
