"""What the form says of a plan, of what it takes, and of the row under the cursor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui.read.form_rows import needed_environment
from tui.words import figures
from tui.words.amount import amount
from tui.words.fact import Fact

if TYPE_CHECKING:
    from sessions.disk.plan import Plan
    from tui.read.expected import Expected
    from tui.read.form_check import Checked
    from tui.read.form_rows import FormRow


def in_the_forms_words(sentence: str) -> str:
    """A sentence about the command line's options, about the form's fields instead."""
    sentence = sentence.replace("add --create-environments", "have missing environments created")
    return re.sub(r"--([a-z][a-z-]*)", lambda found: found[1].replace("-", " "), sentence)


def said_of_plan(plan: Plan, problem: str) -> str:
    """What would be measured."""
    each = f"{len(plan.methods)} method{'s' if len(plan.methods) != 1 else ''}, {amount(plan, plan.goal)}"
    tokens = f"{plan.sampling.max_new_tokens} tokens{' at most' if plan.sampling.stop_at_eos else ''}"
    return f"{each}, {tokens} a request, on {plan.device_name or plan.device}.{f' {problem}' if problem else ''}"


def what_it_takes(checked: Checked) -> list[Fact]:
    """Time, memory and disk, as far as they are known, and what is missing."""
    plan = checked.plan
    if plan is None:
        return []
    time = _time(plan, checked.expected) if checked.expected is not None else "looking at earlier sessions…"
    facts = [Fact("time", time), Fact("memory", _memory(checked)), Fact("disk", _disk(checked))]
    planned, made = {method.name for method in plan.methods}, dict(checked.makes)
    for choice in checked.choices:
        missing = choice.unavailable if choice.lacking is None else None
        if missing is not None and choice.method.name in planned and needed_environment(choice) not in made:
            facts.append(Fact("lacks", in_the_forms_words(missing.reason).rstrip(".")))
            break
    return [fact for fact in facts if fact.text]


def in_brief(facts: Sequence[Fact]) -> list[Fact]:
    """The same in one paragraph, for where there is little room."""
    return [Fact("", " · ".join(fact.text for fact in facts), "dim")] if facts else []


def _time(plan: Plan, expected: Expected) -> str:
    if not expected.blocks:
        ends = f"; rounds are added for {figures.duration(plan.at_most)} at most" if plan.at_most is not None else ""
        return f"unknown before a first run of these methods{ends}"
    of = f"{expected.methods} of the {len(plan.methods)}" if expected.methods < len(plan.methods) else "these"
    blocks = f"{expected.blocks} earlier block{'s' if expected.blocks != 1 else ''}"
    without = "; fidelity takes longer" if expected.unscored else ""
    return f"{figures.time_left(expected.least_s, expected.most_s)}, by {blocks} of {of} methods{without}"


def _memory(checked: Checked) -> str:
    before = checked.expected.memory_bytes if checked.expected is not None else None
    parts = [
        f"weights {figures.size(checked.weights_bytes)}" if checked.weights_bytes is not None else "",
        f"{figures.size(before)} at most before" if before is not None else "",
        f"{figures.size(checked.free_bytes)} free" if checked.free_bytes is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _disk(checked: Checked) -> str:
    parts = [f"{figures.size(checked.download_bytes)} to fetch for the model"] if checked.download_bytes else []
    parts += [f"environment {name}{f': {takes}' if takes else ''}" for name, takes in checked.makes]
    parts = parts or ["nothing to fetch or make"]
    parts += [f"{figures.size(checked.disk_bytes)} of disk free"] if checked.disk_bytes is not None else []
    return "; ".join(parts)


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
