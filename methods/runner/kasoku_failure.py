"""What went wrong in a runner, as a kind and one sentence."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

OUT_OF_MEMORY_WORDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "defaultcpuallocator",
    "cublas_status_alloc_failed",
    "bad_alloc",
)
SENTENCE_LENGTH = 300
# What a compiler or a linker says of the first thing that is wrong, without the place of it.
COMPILERS_LINE = re.compile(
    r"(?:fatal )?error: (?!ld returned)\S.*|\bld: cannot find .*|cannot execute .*|.*No space left on device.*"
)
HINTS = {
    "Python.h": "install python3-dev (Debian, Ubuntu) or python3-devel (Fedora)",
    "omp.h": "install g++, or libomp-dev for clang",
    "-lomp": "install libomp-dev",
    "-lgomp": "install g++",
    "cc1plus": "install g++ (Debian, Ubuntu) or gcc-c++ (Fedora)",
    "failed to map segment": "its folder seems to be mounted noexec",
    "No space left on device": "free some space in TMPDIR and in Kasoku's home",
}


class UnsupportedError(Exception):
    """An engine cannot do what was requested; the text is one sentence that says what and why."""


class ServerError(Exception):
    """A server failed; the text is one sentence. `status` is that of its answer, where it gave one."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class TimeIsUpError(Exception):
    """The time that a measurement was allowed is over; what is under way is cut, and counts for nothing."""


class BrokenEnvironmentError(Exception):
    """The engine's packages cannot be imported; the text is one sentence that says what, and `repair` what to do."""

    def __init__(self, cause: BaseException, repair: str) -> None:
        said = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        super().__init__("The method's environment is broken (%s): %s." % (said.rstrip("."), repair))


def code_refused(error: BaseException, folder: str) -> UnsupportedError | None:
    """What to say where an engine asks for trust in the code of the model in `folder`; None of any other error."""
    if "trust_remote_code" not in str(error):
        return None
    said = [path.read_text(encoding="utf-8", errors="replace") for path in Path(folder).glob("*config.json")]
    if not any('"auto_map"' in text for text in said):  # vLLM names the flag whenever it does not know a model
        return None
    return UnsupportedError("The model comes with Python code of its own, which is run only with --trust-remote-code.")


def kind_of(error: BaseException) -> str:
    """`oom`, `unsupported` or `failed`. An allocator's refusal can hide anywhere in the chain of causes."""
    link: BaseException | None = error
    seen: set = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, UnsupportedError):
            return "unsupported"
        if isinstance(link, MemoryError) or type(link).__name__ == "OutOfMemoryError":
            return "oom"
        if isinstance(link, (RuntimeError, OSError)):
            text = str(link).lower()
            if any(words in text for words in OUT_OF_MEMORY_WORDS):
                return "oom"
        link = link.__cause__ or link.__context__
    return "failed"


def sentence_of(error: BaseException) -> str:
    """The first meaningful line, with the type if the text alone is not enough."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, (UnsupportedError, BrokenEnvironmentError, ServerError, TimeIsUpError)) and lines:
        return lines[0]
    text = with_hint(type(error).__name__ + (": " + lines[0] if lines else ""))
    said = compilers_line("\n".join(lines[1:])) if "compil" in str(error).lower() else ""
    if said:
        text += ": " + said
    return text if len(text) <= SENTENCE_LENGTH else text[: SENTENCE_LENGTH - 1] + "…"


def compilers_line(text: str) -> str:
    """The line in which a compiler says what is wrong, with what to install if that is known; "" if there is none."""
    found = COMPILERS_LINE.search(text)
    return with_hint(found.group().strip()) if found else ""


def with_hint(line: str) -> str:
    """The line, with what to do about it where that is known."""
    hint = next((hint for words, hint in HINTS.items() if words in line), "")
    return "%s (%s)" % (line.rstrip("."), hint) if hint else line


def described(error: BaseException) -> dict:
    """The fields of an `error` line."""
    detail = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {"kind": kind_of(error), "message": sentence_of(error), "detail": detail[-20_000:]}
