"""Whether a method was in effect: the facts a runner left after its timed part, checked against `must_show`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

CheckResult = tuple[bool, str]


@dataclass(frozen=True, slots=True)
class Judgement:
    """`in_effect` is None if it could not be checked; `reason` is one line for people."""

    in_effect: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition a method can declare under `must_show`: its fact, the expected type, and the check."""

    fact: str
    expects: Literal["names", "name", "count"]
    judge: Callable[..., CheckResult]


def _ran_any(ops: Sequence[str], parts: Sequence[str]) -> CheckResult:
    seen = [op for op in ops if any(part in op for part in parts)]
    if seen:
        return True, f"{', '.join(seen)} ran in the profiled step"
    return False, f"no {' or '.join(parts)} ran in the profiled step, but {', '.join(ops) or 'no such op at all'}"


def _ran_none(ops: Sequence[str], parts: Sequence[str]) -> CheckResult:
    seen = [op for op in ops if any(part in op for part in parts)]
    if seen:
        return False, f"{', '.join(seen)} ran in the profiled step"
    return True, f"no {' or '.join(parts)} ran"


def _held_as(classes: Sequence[str], wanted: Sequence[str]) -> CheckResult:
    others = [each for each in classes if not any(part in each for part in wanted)]
    if classes and not others:
        return True, f"quantised layers hold their weights as {', '.join(classes)}"
    return False, f"quantised layers hold their weights as {', '.join(classes) or 'nothing'}, not {' or '.join(wanted)}"


def _kept_as_any(types: Sequence[str], wanted: Sequence[str]) -> CheckResult:
    kept = ", ".join(types) or "nothing"
    holds = bool(types) and all(any(part in each for part in wanted) for each in types)
    return holds, f"the KV cache holds {kept}" + ("" if holds else f", not {' or '.join(wanted)}")


def _multiplied_any(types: Sequence[str], parts: Sequence[str]) -> CheckResult:
    holds = any(part in each for each in types for part in parts)
    return holds, f"quantised weights were multiplied with {', '.join(types) or 'nothing'}" + (
        "" if holds else f", not {' or '.join(parts)}"
    )


def _multiplied_none(types: Sequence[str], parts: Sequence[str]) -> CheckResult:
    holds = bool(types) and not any(part in each for each in types for part in parts)
    return holds, f"quantised weights were multiplied with {', '.join(types) or 'nothing'}"


def _attention_is(actual: str, wanted: str) -> CheckResult:
    if actual == wanted:
        return True, f"attention resolved to {actual}"
    return False, f"attention resolved to {actual}, not {wanted}"


def _attention_is_not(actual: str, unwanted: str) -> CheckResult:
    return actual != unwanted, f"attention resolved to {actual}"


def _cache_is(actual: str, wanted: str) -> CheckResult:
    return actual == wanted, f"the cache was {actual}" + ("" if actual == wanted else f", not {wanted}")


def _wrapper_is(actual: str, wanted: str) -> CheckResult:
    if actual == wanted:
        return True, f"the model was wrapped in {actual}"
    return False, f"the model was not wrapped in {wanted}" + (f", but in {actual}" if actual else "")


def _drafter_is(actual: str, wanted: str) -> CheckResult:
    if actual == wanted:
        return True, f"{actual} drafted"
    return False, f"{wanted} did not draft" + (f", but {actual}" if actual else "")


def _served_by(actual: str, wanted: str) -> CheckResult:
    return actual == wanted, f"the server calls itself {actual}" + ("" if actual == wanted else f", not {wanted}")


def _mostly(types: Sequence[str], wanted: Sequence[str]) -> CheckResult:
    """`types` begins with the one that most bytes of the weights have."""
    if not types:
        return False, f"no weights were multiplied, and they were to be {' or '.join(wanted)}"
    if types[0] in wanted:
        return True, f"most weights were {types[0]}"
    return False, f"most weights were {types[0]}, not {' or '.join(wanted)}"


def _at_least(one: str, many: str, verb: str) -> Callable[[int, int], CheckResult]:
    return lambda actual, bound: (actual >= bound, _counted(actual, one, many, verb))


def _at_most(one: str, many: str, verb: str) -> Callable[[int, int], CheckResult]:
    return lambda actual, bound: (actual <= bound, _counted(actual, one, many, verb))


def _counted(number: int, one: str, many: str, verb: str) -> str:
    return f"{number} {one} was {verb}" if number == 1 else f"{number} {many} were {verb}"


CONDITIONS: Mapping[str, Condition] = {
    "attention_op_any": Condition("attention_ops", "names", _ran_any),
    "attention_op_none": Condition("attention_ops", "names", _ran_none),
    "attention_implementation": Condition("attention_implementation", "name", _attention_is),
    "attention_implementation_not": Condition("attention_implementation", "name", _attention_is_not),
    "cache": Condition("cache", "name", _cache_is),
    "wrapper": Condition("wrapper", "name", _wrapper_is),
    "drafter": Condition("drafter", "name", _drafter_is),
    "drafted_tokens_min": Condition(
        "drafted_tokens", "count", _at_least("token", "tokens", "drafted in the timed part")
    ),
    "served_by": Condition("served_by", "name", _served_by),
    "weights_mostly": Condition("weight_types", "names", _mostly),
    "unexpected_weights_max": Condition(
        "unexpected_weights", "count", _at_most("tensor", "tensors", "multiplied in a type that was not asked for")
    ),
    "layers_not_offloaded_max": Condition(
        "layers_not_offloaded", "count", _at_most("layer", "layers", "left off the GPU")
    ),
    "compiled_frames_min": Condition("compiled_frames", "count", _at_least("frame", "frames", "compiled")),
    "compiled_frames_max": Condition("compiled_frames", "count", _at_most("frame", "frames", "compiled")),
    "compiled_regions_run_min": Condition(
        "compiled_regions_run", "count", _at_least("compiled region", "compiled regions", "run in the profiled step")
    ),
    "tuned_kernels_min": Condition("tuned_kernels", "count", _at_least("kernel", "kernels", "chosen by timing them")),
    "graph_breaks_max": Condition("graph_breaks", "count", _at_most("graph break", "graph breaks", "counted")),
    "recompiles_timed_max": Condition(
        "recompiles_timed", "count", _at_most("frame", "frames", "recompiled in the timed part")
    ),
    "cuda_graphs_min": Condition(
        "cuda_graphs", "count", _at_least("CUDA graph", "CUDA graphs", "launched in the profiled step")
    ),
    "collectives_min": Condition(
        "collectives", "count", _at_least("collective operation", "collective operations", "run in the profiled step")
    ),
    "gpus_min": Condition("gpus", "count", _at_least("GPU", "GPUs", "given a part of the model")),
    "converted_modules_min": Condition("converted_modules", "count", _at_least("module", "modules", "converted")),
    "converted_modules_max": Condition("converted_modules", "count", _at_most("module", "modules", "converted")),
    "quantised_as": Condition("quantised_as", "names", _held_as),
    "quantised_layers_min": Condition(
        "quantised_layers", "count", _at_least("linear layer", "linear layers", "quantised")
    ),
    "plain_layers_max": Condition("plain_layers", "count", _at_most("linear layer", "linear layers", "left as stored")),
    "matmul_op_any": Condition("matmul_ops", "names", _ran_any),
    "matmul_op_none": Condition("matmul_ops", "names", _ran_none),
    "activations_any": Condition("activations", "names", _multiplied_any),
    "activations_none": Condition("activations", "names", _multiplied_none),
    "kv_dtypes": Condition("kv_dtypes", "names", _kept_as_any),
    "cached_prompt_tokens_max": Condition(
        "cached_prompt_tokens",
        "count",
        _at_most("prompt token", "prompt tokens", "reused from earlier requests"),
    ),
}
WHY_NOT = "why_not"
# Tables of conditions that count on one kind of device only.
DEVICES = ("cpu", "cuda")
# A fact whose absence is itself a finding: no wrapper is not an unknown wrapper.
ABSENT: Mapping[str, object] = {"wrapper": "", "drafter": ""}


def problem_of(key: str, value: object) -> str | None:
    """What is wrong with one condition as declared, or None. The caller checks for unknown keys."""
    expects = CONDITIONS[key].expects
    if expects == "names":
        if not (isinstance(value, list | tuple) and value and all(isinstance(name, str) and name for name in value)):
            return "must be a list of names"
    elif expects == "name":
        if not (isinstance(value, str) and value):
            return "must be a name"
    elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return "must be a whole number, 0 or more"
    return None


def judge(must_show: Mapping[str, object], evidence: Mapping[str, object] | None) -> Judgement:
    """True if all conditions hold, False if one does not, None if none failed but not all could be checked."""
    if evidence is None:
        return Judgement(None, "Could not be checked: the run left no evidence.")
    holding, failing, unknown = [], [], []
    conditions = _conditions(must_show)
    device = str(evidence.get("device") or "").partition(":")[0]
    for kind in DEVICES:
        table = must_show.get(kind)
        if isinstance(table, Mapping) and kind == device:
            conditions += _conditions(table)
        elif isinstance(table, Mapping) and not device:
            unknown.append("the run did not report its device")
    if not conditions and not unknown:
        return Judgement(None, "Could not be checked: the method declares nothing that it must show.")
    for key, wanted, why in conditions:
        condition = CONDITIONS[key]
        actual = _fact(condition, evidence)
        if actual is None:
            unknown.append(_why_missing(condition.fact, evidence))
            continue
        holds, sentence = condition.judge(actual, wanted)
        if holds:
            holding.append(sentence)
        else:
            failing.append(f"{sentence}: {why}" if why else sentence)
    if failing:
        return Judgement(False, _sentence("; ".join(failing)))
    if unknown:
        return Judgement(None, _sentence("could not be checked: " + "; ".join(dict.fromkeys(unknown))))
    return Judgement(True, _sentence("; ".join(dict.fromkeys(holding))))


def _conditions(table: Mapping[str, object]) -> list[tuple[str, object, object]]:
    """Each condition of a table with its wanted value, and the method's explanation for when it does not hold."""
    explanations = table.get(WHY_NOT)
    known = explanations if isinstance(explanations, Mapping) else {}
    return [(key, wanted, known.get(key)) for key, wanted in table.items() if key not in (WHY_NOT, *DEVICES)]


def _fact(condition: Condition, evidence: Mapping[str, object]) -> object:
    """The fact, or None if it is missing or of the wrong type (a user's engine may have written it)."""
    actual = evidence.get(condition.fact)
    if actual is None:
        return ABSENT.get(condition.fact) if condition.fact in evidence else None
    kind_fits = {
        "names": isinstance(actual, list | tuple) and all(isinstance(name, str) for name in actual),
        "name": isinstance(actual, str),
        "count": isinstance(actual, int) and not isinstance(actual, bool),
    }
    return actual if kind_fits[condition.expects] else None


def _why_missing(fact: str, evidence: Mapping[str, object]) -> str:
    missing = evidence.get("missing")
    reasons = missing if isinstance(missing, Mapping) else {}
    named = (fact, "evidence") if fact in evidence else (fact, "evidence", "profile")
    reason = next((reasons[name] for name in named if reasons.get(name)), None)
    if reason:
        return str(reason).rstrip(".")
    return f"the engine did not report {fact}" if evidence.get(fact) is None else f"the engine gave an invalid {fact}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
