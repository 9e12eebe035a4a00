"""`kasoku run`: from the options to a plan, a session, and its table."""

from __future__ import annotations

import argparse
import sys

from methods.base.home import config_folder, home
from methods.models.prompts import PromptError, read_prompt
from sessions.disk.session_folder import SessionError
from sessions.planning.make import PlanError, Wanted, make_plan
from sessions.run.launch import launch
from tui.command_line import EXIT_INTERRUPTED, EXIT_OK, UsageError
from tui.commands.following import held_back, outcome, watch_own


def run(options: argparse.Namespace) -> int:
    """Plan, launch, follow, and show the outcome."""
    try:
        plan = make_plan(wanted(options), home(), config_folder())
        with held_back() as pressed:
            folder = launch(home(), plan)
    except (PlanError, PromptError, SessionError) as error:
        raise UsageError(str(error)) from None
    if options.detach:
        sys.stdout.write(f"{folder.id}\n")
        sys.stderr.write(f"Running in the background: `kasoku attach {folder.id}` shows it, `kasoku stop` stops it.\n")
        return EXIT_OK
    if watch_own(folder, pressed, quiet=options.json):
        sys.stderr.write(f"Left; {folder.id} is being stopped and saved: `kasoku show {folder.id}`.\n")
        return EXIT_INTERRUPTED
    return outcome(folder, options.json)


def wanted(options: argparse.Namespace) -> Wanted:
    """The request in the options. PromptError if the prompt cannot be read."""
    template = True if options.chat else False if options.raw else None
    return Wanted(
        preset=options.preset,
        model=options.model,
        methods=tuple(options.method),
        requests=options.requests,
        warmup=options.warmup,
        blocks=options.blocks,
        seed=options.seed,
        prompt=None if options.prompt is None else read_prompt(options.prompt, sys.stdin),
        prompt_tokens=options.prompt_tokens,
        template=template,
        max_new_tokens=options.max_new_tokens,
        stop_at_eos=options.stop_at_eos,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        repetition_penalty=options.repetition_penalty,
        dtype=options.dtype,
        device=options.device,
        threads=options.threads,
        load_deadline_s=options.load_deadline,
        token_deadline_s=options.token_deadline,
        create_environments=options.create_environments,
        trust_remote_code=options.trust_remote_code,
        aa=options.aa,
        command=("kasoku", *options.argv),
    )
