"""What the form says of a plan, of what it takes, and of the row under the cursor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tui.words import figures
from tui.words.amount import amount

if TYPE_CHECKING:
    from sessions.disk.plan import Plan
    from tui.read.form_check import Checked
    from tui.read.form_rows import FormRow


def in_the_forms_words(sentence: str) -> str:
    """A sentence about the command line's options, about the form's fields instead."""
    sentence = sentence.replace("add --create-environments", "have missing environments created")
    return re.sub(r"--([a-z][a-z-]*)", lambda found: found[1].replace("-", " "), sentence)


def said_of_plan(plan: Plan, estimate_s: float | None, problem: str) -> str:
    """What would be measured, and how long that would take."""
    each = f"{len(plan.methods)} methods, {amount(plan, plan.goal)}"
    tokens = f"{plan.sampling.max_new_tokens} tokens{' at most' if plan.sampling.stop_at_eos else ''}"
    about = (
        f": about {figures.duration(estimate_s)}"
        if estimate_s is not None
        else ": duration unknown before a first run"
        if plan.until is None
        else ""
    )
    return f"{each}, {tokens} a request, on {plan.device_name or plan.device}{about}.{f' {problem}' if problem else ''}"


def what_it_takes(checked: Checked) -> str:
    """Memory and disk, as far as they are known."""
    parts = []
    if checked.weights_bytes is not None:
        of = f" of {figures.size(checked.free_bytes)} free" if checked.free_bytes is not None else ""
        parts.append(f"the weights take {figures.size(checked.weights_bytes)}{of}")
    if checked.download_bytes:
        parts.append(f"{figures.size(checked.download_bytes)} to fetch first")
    plan = checked.plan
    planned = {method.name for method in plan.methods} if plan is not None else set()
    for choice in checked.choices:
        if choice.method.name in planned and choice.unavailable is not None and choice.lacking is None:
            parts.append(in_the_forms_words(choice.unavailable.reason).rstrip("."))
            break
    text = " · ".join(parts)
    return text[:1].upper() + text[1:]


def folded_words(row: FormRow) -> str:
    """What a row of several methods needs, and their names."""
    names = ", ".join(choice.method.name for choice in row.folded)
    if row.environment:
        return f"environment {row.environment}, c creates it: {names}"
    return f"need another device: {names}"


def about_row(row: FormRow) -> str:
    """What the method under the cursor is, or what those of a folded row need."""
    method, missing = row.choice.method, row.choice.unavailable
    if row.folded:
        names = ", ".join(choice.method.name for choice in row.folded)
        need = missing.reason if missing is not None and row.environment else "Nothing here can run them"
        return f"{need.rstrip('.')}. {'c creates it' if row.environment else 'Enter says why of each'}: {names}."
    parts = [f"{method.summary.rstrip('.')}."]
    if missing is not None:
        fix = f" Fix: {missing.remedy}." if missing.remedy else ""
        parts.insert(0, f"Cannot run here: {missing.reason}{fix}")
    elif method.reference:
        parts.append(f"Reference: {method.reference}; differs in {method.differs.rstrip('.')}.")
    return " ".join(parts)
