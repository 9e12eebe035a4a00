"""The offer of more rounds, where a comparison leaves something open."""

from __future__ import annotations


def command(session: str, more: int) -> str:
    """What a terminal takes."""
    return f"kasoku resume {session} --blocks +{more}"


def offer(session: str, more: int) -> str:
    """For a terminal, below a table."""
    return f"{_rounds(more)} would probably settle what is open: {command(session, more)}"


def question(session: str, more: int) -> str:
    """For a screen, before it is done."""
    return f"Measure {_rounds(more)} of {session}? They go on with its plan, prompt and weights."


def fidelity_offer(session: str) -> str:
    """For a terminal, of a session whose fidelity was not measured."""
    return f"What the methods lose was not measured; one more round adds it: kasoku resume {session} --fidelity"


def fidelity_question(session: str) -> str:
    """For a screen, before it is done."""
    return f"Measure the fidelity of the methods of {session}, in one more round of each?"


def _rounds(more: int) -> str:
    return f"about {more} more round{'s' if more != 1 else ''}"
