"""Tables as TOML text. The catalogue's values are those that JSON can hold too (`toml_keys.check_storable`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
INLINE: Final = 100  # characters of a table within a line; a longer one has lines of its own


def table_text(path: tuple[str, ...], table: Mapping[str, object]) -> str:
    """The table under its heading, its larger tables after it."""
    lines, later = [f"[{'.'.join(map(_key, path))}]"], []
    for name, value in table.items():
        line = f"{_key(name)} = {_value(value)}"
        if isinstance(value, dict) and len(line) > INLINE:
            later.append(table_text((*path, name), value))
        else:
            lines.append(line)
    return "\n\n".join(["\n".join(lines), *later])


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else _string(name)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case dict():
            return (
                f"{{ {', '.join(f'{_key(name)} = {_value(each)}' for name, each in value.items())} }}"
                if value
                else "{}"
            )
        case list():
            return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _string(text: str) -> str:
    """JSON's escapes are TOML's, which has one more character to escape."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
