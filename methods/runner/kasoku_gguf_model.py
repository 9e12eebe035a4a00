"""The job `read-gguf`: what a user's GGUF is, and its tokeniser in the form that Kasoku reads.

{"files": [the file, or its parts], "folder": the tokeniser goes here}

Result: {"parameters", "weights_bytes", "types": {type: tensors}, "dtype": the type of most bytes, "tokeniser": None or
why it cannot be read, "config", "versions"}. The config has the facts of the file's header under config.json's names.
"""

from __future__ import annotations

from pathlib import Path

from kasoku_failure import UnsupportedError, sentence_of

FACTS = {  # config.json's names, by the header's after the architecture
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "expert_count": "num_experts",
}
TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def run(job: dict, wire: object) -> None:
    wire.progress("read-gguf", "reading the header")
    import gguf

    readers = [_reader(gguf, Path(file)) for file in job["files"]]
    sizes: dict = {}
    types: dict = {}
    parameters = 0
    for reader in readers:
        for tensor in reader.tensors:
            kind = tensor.tensor_type.name
            types[kind] = types.get(kind, 0) + 1
            sizes[kind] = sizes.get(kind, 0) + int(tensor.n_bytes)
            parameters += int(tensor.n_elements)
    if not types:
        raise UnsupportedError("%s has no tensors." % Path(job["files"][0]).name)
    folder = Path(job["folder"])
    most = max(sizes, key=sizes.get)
    wire.progress("read-gguf", "converting the tokeniser")
    fault = _tokeniser(Path(job["files"][0]), folder)
    import kasoku_describe

    wire.result(
        {
            "parameters": parameters,
            "weights_bytes": sum(sizes.values()),
            "types": types,
            "dtype": TORCH_NAMES.get(most, most.lower()),
            "tokeniser": fault,
            "config": config_of(readers[0]),
            "versions": {name: kasoku_describe.version_of(name) for name in ("gguf", "transformers", "tokenizers")},
        }
    )


def _reader(gguf: object, file: Path) -> object:
    """The reader of a file. Raises UnsupportedError where it is cut off, or has what the library does not know."""
    try:
        reader = gguf.GGUFReader(str(file))
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise UnsupportedError(
            "%s cannot be read as a GGUF; it may be cut off, or be newer than what reads it (%s)."
            % (file.name, sentence_of(error))
        ) from error
    size = file.stat().st_size
    if any(tensor.data_offset + tensor.n_bytes > size for tensor in reader.tensors):
        raise UnsupportedError("%s is cut off: it ends before its tensors do. Fetch it again." % file.name)
    return reader


def config_of(reader: object) -> dict:
    """The facts of a header by the names that they have in a config.json."""
    architecture = str(_value(reader, "general.architecture") or "unknown")
    config = {"model_type": architecture, "architectures": [architecture]}
    for name, known_as in FACTS.items():
        value = _value(reader, "%s.%s" % (architecture, name))
        if isinstance(value, int):
            config[known_as] = value
    tokens = reader.fields.get("tokenizer.ggml.tokens")
    if tokens is not None and len(tokens.data):
        config["vocab_size"] = len(tokens.data)
    if isinstance(eos := _value(reader, "tokenizer.ggml.eos_token_id"), int):
        config["eos_token_id"] = eos
    return config


def _value(reader: object, name: str) -> object:
    field = reader.fields.get(name)
    return None if field is None else field.contents()


def _tokeniser(file: Path, folder: Path) -> str | None:
    """Write tokenizer.json and what goes with it; the reason where transformers cannot read it."""
    from transformers import AutoTokenizer

    try:
        tokeniser = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name, trust_remote_code=False)
        if getattr(tokeniser, "backend_tokenizer", None) is None:
            return "%s has no fast form" % type(tokeniser).__name__
        tokeniser.save_pretrained(str(folder))
    except Exception as error:  # a file without a tokeniser still runs, with ids for a prompt
        return sentence_of(error)
    return None
