# mypy: ignore-errors
"""What test_resident.py runs to have Triton compile a step's kernels for GPUs that are not there.

    PYTHON -I resident_compiled.py RUNNER > RESULT.json

Result: {a GPU's compute capability: {kernel: its PTX's facts}}. No kernel runs, and the model has no memory.
"""

import json
import re
import sys
from types import SimpleNamespace

import torch
import transformers
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, sys.argv[1])

import kasoku_resident_knobs as knobs_of
import kasoku_resident_unpacking as unpacking
from kasoku_asked_sampling import AskedSampling
from kasoku_resident_shape import shape_of_config
from kasoku_resident_step import Step
from kasoku_resident_weights import BIASED, PLAIN, Weights

LENGTH = 512
CONFIG = {
    "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32, "num_key_value_heads": 4,
    "num_hidden_layers": 1, "vocab_size": 50688, "tie_word_embeddings": True,
}  # fmt: skip
SAMPLING = {"max_new_tokens": 9, "temperature": 0.8, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.1}
TYPES = {
    torch.float32: "fp32", torch.bfloat16: "bf16", torch.float8_e4m3fn: "fp8e4nv", torch.uint8: "u8",
    torch.int8: "i8", torch.int32: "i32", torch.int64: "i64",
}  # fmt: skip


class Recorded(Step):
    """A step that notes what it would launch."""

    def _launch(self, kernel, grid, arguments, warps, **how):
        return lambda: (kernel, arguments, {**how, "PDL": self.pdl}, warps)


def step_of(how, pdl, turning=False, **sampling):
    config = transformers.LlamaConfig(**CONFIG)
    shape = shape_of_config(transformers, config, LENGTH)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).requires_grad_(False)
        weights = Weights(model, shape, how)
        rotary = tuple(torch.zeros(LENGTH, shape.head) for _ in range(2))
        step = Recorded(shape, weights, LENGTH, AskedSampling({"sampling": {**SAMPLING, **sampling}}), rotary, pdl)
    step.on_gpu = True
    for role in knobs_of.ROLES:
        matrix = step.matrix(role, 0)
        step.knobs[role] = knobs_of.default(matrix, interpreted=False)
        if turning and role in knobs_of.TURNED:
            step.knobs[role] = knobs_of.turning(matrix, *knobs_of.TURNING[0])
    step.knobs["attention"] = {**knobs_of.of_attention(shape, LENGTH, interpreted=False), "splits": 4}
    step.knobs["choice"] = knobs_of.of_choice(shape.vocabulary, interpreted=False)
    return step


def compiled(step, capability, of=""):
    """Facts of the kernels whose names begin so."""
    launches = [(name, launch()) for name, launch in step.launches("asked")]
    return facts([(name, *rest) for name, rest in launches if name.startswith(of)], capability)


def facts(launches, capability):
    """Of kernels: {name: what their machine code tells}."""
    said = {}
    target = GPUTarget("cuda", capability, 32)
    for name, kernel, arguments, how, warps in launches:
        names = kernel.arg_names
        given = dict(zip(names, arguments, strict=False))
        signature = {each: "constexpr" if each in how else type_of(given[each]) for each in names}
        aligned = {(place,): [["tt.divisibility", 16]] for place, each in enumerate(names) if "*" in signature[each]}
        constants = {(names.index(each),): value for each, value in how.items() if each in names}
        source = ASTSource(kernel, signature, constants, aligned)
        more = {"launch_pdl": True} if how["PDL"] else {}
        made = triton.compile(source, target=target, options={"num_warps": warps, **more})
        ptx = made.asm["ptx"]
        waits = ptx.find("griddepcontrol.wait")
        before = re.findall(r"ld\.global\S*", ptx[:waits] if waits >= 0 else "")
        said[name] = {
            "waits": waits >= 0,
            "before": before,
            "copies": len(re.findall(r"cp\.async\.cg\.shared\.global \[[^]]+\], \[[^]]+\], 0x10", ptx)),
            "fetches": "cp.async.bulk.prefetch.L2.global" in ptx,
            "stack": stack_of(made),
        }
    return said


def stack_of(made):
    """Bytes of local memory that the binary names, where registers did not do."""
    found = re.search(r"\.local \.align \d+ \.b8 \S+\[(\d+)\]", made.asm["ptx"])
    return int(found.group(1)) if found else 0


def type_of(value):
    if isinstance(value, torch.Tensor):
        return "*" + TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def main():
    transformers.logging.set_verbosity_error()
    triton.runtime.driver.set_active(SimpleNamespace(get_current_target=lambda: GPUTarget("cuda", 90, 32)))
    found = {
        "plain 80": compiled(step_of("plain", pdl=False), 80),
        "plain 90": compiled(step_of("plain", pdl=True), 90),
    }
    for how in ("int8", "fp8"):
        found[f"{how} 90"] = compiled(step_of(how, pdl=True), 90, of="resident_qkv")
    found["turning 90"] = compiled(step_of("plain", pdl=True, turning=True), 90, of="resident_mlp")
    for how, kind in (("int8", torch.uint8), ("fp8", torch.float8_e4m3fn)):
        given = (torch.zeros(1, dtype=kind), torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16), 0, 2)
        fixed = {"WIDTH": 5632, "BLOCK": unpacking.BLOCK, "FORMAT": BIASED if how == "int8" else PLAIN, "PDL": False}
        launch = ("resident_unpack", unpacking.resident_unpack, given, fixed, 4)
        found[f"{how} unpacked 90"] = facts([launch], 90)
    many = step_of("plain", pdl=True, top_k=0)
    found["many 90"] = compiled(many, 90, of=("resident_narrow", "resident_draw", "resident_advance"))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
