"""Strategies: any JSON, any value of a type as msgspec sees it, and bytes that were damaged."""

from __future__ import annotations

import types
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

NAMES = ("one", "two", "…\x1b[31m", "../one", "")
EDGES = (0, 1, -1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63))
INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(EDGES) | st.integers(0, 10)
FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from((0.0, -0.0, 1e308, -1e308, 5e-324))
TEXT = st.text(max_size=8) | st.sampled_from(NAMES)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | INT64 | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        meta = arguments[1]
        return st.floats(meta.ge, meta.le) if arguments[0] is float else of_type(arguments[0])
    if origin in (Union, types.UnionType):
        return st.one_of(*map(of_type, arguments))
    if origin is list:
        return st.lists(of_type(arguments[0]), max_size=4)
    if origin in (dict, Mapping):
        return st.dictionaries(of_type(arguments[0]), of_type(arguments[1]), max_size=3)
    if origin is Literal:
        return st.sampled_from(arguments)
    if is_dataclass(kind):
        return dataclass_of(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.array_like:
        hints = get_type_hints(kind, include_extras=True)
        return st.tuples(*(of_type(hints[name]) for name in kind.__struct_fields__))
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return st.lists(of_type(arguments[0]), max_size=3)
    if origin is tuple:
        return st.tuples(*map(of_type, arguments))
    known: dict[Any, st.SearchStrategy[Any]] = {
        int: INT64,
        float: FLOATS,
        str: TEXT,
        bool: st.booleans(),
        bytes: st.binary(max_size=24).map(lambda raw: b64encode(raw).decode()),
        Path: TEXT,
        type(None): st.none(),
        Any: ANY_JSON,
        object: ANY_JSON,
    }
    return known[kind]


def dataclass_of(kind: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A dataclass as its JSON has it; a field that has a default may be absent."""
    hints = get_type_hints(kind)
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in fields(kind):
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        (optional if has_default else required)[field.name] = of_type(hints[field.name])
    return st.fixed_dictionaries(required, optional=optional)


def fields_of(kind: type[msgspec.Struct], **chosen: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The fields of a struct with its tag, as its JSON has them; `chosen` strategies stand for the types' own."""
    hints = get_type_hints(kind, include_extras=True)
    tag = kind.__struct_config__.tag
    required: dict[str, st.SearchStrategy[Any]] = {"k": st.just(tag)}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in msgspec.structs.fields(kind):
        strategy = chosen.get(field.name, of_type(hints[field.name]))
        place = required if field.required else optional
        place[field.encode_name] = strategy
    return st.fixed_dictionaries(required, optional=optional)


@st.composite
def damaged(draw: st.DrawFn, raw: bytes) -> bytes:
    """Bytes after one to six of: changed, cut out, put in, doubled, cut off."""
    data = bytearray(raw)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(("change", "change", "flip", "out", "in", "double", "off"))):
            case "change" if data:
                data[place] = draw(st.integers(0, 255))
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "out":
                del data[place : place + draw(st.integers(1, 64))]
            case "in":
                data[place:place] = draw(st.binary(max_size=32) | st.sampled_from((b"\n", b"null", b"-1", b"1e308")))
            case "double":
                data[place:place] = data[place : place + draw(st.integers(1, 400))]
            case _:
                del data[place:]
    return bytes(data)
