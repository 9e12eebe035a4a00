"""What llama.cpp's library says: taken in place of its printing it, as the sentence of a failure."""

from __future__ import annotations

import re

CHARACTERS = 2_000_000


class Log:
    """What the library says, in place of its printing it. Must live as long as the library is used."""

    def __init__(self, library: object) -> None:
        self._said: list = []
        self._length = 0
        self._callback = library.llama_log_callback(self._take)
        library.llama_log_set(self._callback, None)

    def _take(self, level: int, said: bytes, data: object) -> None:  # noqa: ARG002
        if self._length < CHARACTERS and said:
            text = said.decode(errors="replace")
            self._said.append(text)
            self._length += len(text)

    def clear(self) -> None:
        self._said, self._length = [], 0

    def text(self) -> str:
        return "".join(self._said)

    def fault(self) -> str:
        """The first thing that it says went wrong, without the function's name before it."""
        lines = [line.strip() for line in self.text().splitlines() if line.strip()]
        wrong = [line for line in lines if re.search(r"error|fail|invalid|unknown|unsupported|unable", line, re.I)]
        said = (wrong or lines[-1:] or ["it does not say why"])[0]
        return re.sub(r"^(\w+: )+(error loading model: )?", "", said).rstrip(".")
