"""The job `served`: which models some servers have, asked all at once.

The job has `urls`, `within_s` for each, and `key_from`, the variable that holds a key, or None. The result has a row
for each: `url`, `models` (name and owner), `status` of an answer that was none, and what went wrong as `error`.
"""

from __future__ import annotations

import os
import threading

import kasoku_http
from kasoku_failure import ServerError

MODELS = "/v1/models"
MOST_MODELS = 1000
PATIENCE_S = 0.5


def run(job: dict, wire: object) -> None:
    rows = [{"url": url, "models": [], "status": None, "error": ""} for url in job["urls"]]
    key = os.environ.get(job.get("key_from") or "") or None
    asking = [threading.Thread(target=ask, args=(row, key, job["within_s"]), daemon=True) for row in rows]
    for thread in asking:
        thread.start()
    for row, thread in zip(rows, asking):
        thread.join(job["within_s"] + PATIENCE_S)
        if thread.is_alive():  # it sends something all the time, and no answer
            row["error"] = "The server at %s did not answer in time." % kasoku_http.Server(row["url"]).name
    wire.result({"servers": [dict(row) for row in rows]})


def ask(row: dict, key: str | None, within_s: float) -> None:
    """Fill in the row of one server."""
    server = kasoku_http.Server(row["url"], key)
    try:
        row["models"] = models_of(server, within_s)
    except ServerError as error:
        row["error"], row["status"] = str(error), error.status


def models_of(server: kasoku_http.Server, within_s: float = kasoku_http.ANSWER_S) -> list:
    """[name, owner] of each of the server's models. Raises ServerError."""
    told = server.ask(MODELS, within_s=within_s)
    try:
        rows = told["data"] or []
        found = [[str(row["id"]), server.said(row.get("owned_by") or "")] for row in rows[:MOST_MODELS]]
    except (AttributeError, KeyError, TypeError):
        raise ServerError("The server at %s does not list its models at %s." % (server.name, MODELS)) from None
    for name, _ in found:
        if server.said(name) != name:
            raise ServerError(
                "The server at %s has a model whose name is too long or holds what cannot be shown: %s"
                % (server.name, server.said(name))
            )
    return found
