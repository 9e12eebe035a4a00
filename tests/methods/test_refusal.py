"""The system's own words, as a sentence."""

from __future__ import annotations

import pytest

from methods.base.refusal import refusal


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "Kasoku could not go on: no space left on device."),
        (
            FileNotFoundError(2, "No such file or directory", "/a", None, b"/b\xff"),
            "Kasoku could not go on: /a and /b\udcff: no such file or directory.",
        ),
        (OSError(9, "Bad file descriptor", 3), "Kasoku could not go on: bad file descriptor."),
        (OSError(), "Kasoku could not go on: the system refused something."),
        (MemoryError(), "Kasoku ran out of memory."),
        (
            ModuleNotFoundError("No module named 'rich'"),
            "Kasoku is not whole, or cannot be read (No module named 'rich'): install it again.",
        ),
    ],
)
def test_what_was_refused_is_a_sentence(error: OSError | MemoryError | ImportError, sentence: str) -> None:
    assert refusal(error) == sentence
