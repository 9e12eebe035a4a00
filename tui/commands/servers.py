"""`kasoku servers`: what listens on this machine's usual ports, and which models it serves."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from urllib.parse import urlsplit

from methods.base.home import home
from methods.jobs.runner_job import JobError
from methods.jobs.servers import USUAL, Served, usual_servers
from tui.command_line import EXIT_OK, UsageError
from tui.words.terminal_text import json_document, one_line


def servers(options: argparse.Namespace) -> int:
    """A line per server, asked on loopback and without a key."""
    try:
        found = usual_servers(home())
    except JobError as error:
        raise UsageError(str(error)) from None
    if options.json:
        sys.stdout.write(json_document([asdict(each) for each in found]))
        return EXIT_OK
    for each in found:
        sys.stdout.write(f"{each.url}  {one_line(_said(each), 300)}\n")
    if found:
        sys.stdout.write("\n`kasoku run --server URL` measures one of them.\n")
    else:
        sys.stdout.write(f"Nothing serves models on the usual ports: {', '.join(map(str, USUAL))}.\n")
    return EXIT_OK


def _said(server: Served) -> str:
    if server.wants_key:
        return f"wants an API key ({USUAL.get(urlsplit(server.url).port or 0, 'unknown')}?)"
    owners = sorted({owner for owner in server.models.values() if owner})
    whose = ", ".join(owners) or "it does not say what it is"
    return f"{', '.join(server.models)} ({whose})"
