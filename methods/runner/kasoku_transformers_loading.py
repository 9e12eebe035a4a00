"""Loading with transformers: every tensor of the model comes from its files, or a sentence says why not."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from kasoku_engine import UnsupportedError
from kasoku_failure import code_refused
from kasoku_tensor_parts import bytes_of, tensors_of
from kasoku_torch_facts import still_packed

UNKNOWN_MODEL = ("does not recognize this architecture", "Unrecognized configuration class", "Unrecognized model in")


def loaded(transformers: object, folder: str, arguments: dict, quantisation: str | None) -> tuple:
    """(the model, what was found out about its weights). Raises UnsupportedError.

    transformers itself only warns of tensors that the files lack, and draws them at random.
    """
    if quantisation is not None:
        check_known(transformers, quantisation)
    try:
        model, said = transformers.AutoModelForCausalLM.from_pretrained(
            folder, **{**arguments, "output_loading_info": True, "ignore_mismatched_sizes": True}
        )
    except (KeyError, ValueError) as error:
        kind = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("model_type")
        # before 4.36 a kind of model that is not known is no more than a missing key
        if error.args == (kind,) or any(words in str(error) for words in UNKNOWN_MODEL):
            raise UnsupportedError(
                "transformers %s has no language model of type %r." % (transformers.__version__, kind)
            ) from error
        raise code_refused(error, folder) or error from error
    except ImportError as error:
        if quantisation is None:
            raise
        raise UnsupportedError(
            "The model is quantised (%s), which this environment cannot load: %s" % (quantisation, str(error).strip())
        ) from error
    check_whole(model, said)
    unused = sorted(said["unexpected_keys"])
    return model, {
        "unused_weights": {"tensors": len(unused), "such_as": unused[0]} if unused else None,
        "quantisation": quantisation
        and {
            "method": quantisation,
            "dequantised": not still_packed(itertools.chain(model.parameters(), model.buffers())),
        },
    }


def check_known(transformers: object, quantisation: str) -> None:
    """Raise UnsupportedError where this transformers would take packed weights for plain ones."""
    from transformers.utils.quantization_config import QuantizationMethod

    if quantisation not in {method.value for method in QuantizationMethod}:
        raise UnsupportedError(
            "The model is quantised (%s), which transformers %s cannot read." % (quantisation, transformers.__version__)
        )


def check_whole(model: object, said: dict) -> None:
    """Raise UnsupportedError where a tensor of the model is not in its files, or not in its shape there."""
    missing = made_up(model, set(said["missing_keys"]))
    if missing:
        raise UnsupportedError(
            "%s not in its files and would be drawn at random: %s."
            % (counted(missing, "of the model"), some_of(missing))
        )
    mismatched = sorted({entry[0] for entry in said["mismatched_keys"]})
    if mismatched:
        raise UnsupportedError(
            "%s of another shape than its config.json says: %s."
            % (counted(mismatched, "in the files"), some_of(mismatched))
        )


def made_up(model: object, missing: set) -> list:
    """The names in `missing` whose tensors share no memory with one that was read, as tied ones do."""
    held = {
        name: tensor.data_ptr()
        for name, tensor in itertools.chain(
            model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)
        )
    }
    read = {address for name, address in held.items() if name not in missing and address}
    return sorted(name for name in missing if held.get(name) not in read)


def weights_bytes(model: object, quantised: bool) -> int:
    """What the weights hold in memory; where they are quantised, with the scales beside them."""
    return sum(bytes_of(tensor) for tensor in (tensors_of(model) if quantised else model.parameters()))


def counted(names: list, where: str) -> str:
    return "1 tensor %s is" % where if len(names) == 1 else "%d tensors %s are" % (len(names), where)


def some_of(names: list) -> str:
    return names[0] if len(names) == 1 else "%s and %d more" % (names[0], len(names) - 1)
