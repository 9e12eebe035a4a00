"""The engine of servers: a model behind HTTP, started by a command for each block, or one that runs already.

The runner is the client: it sends the prompt's IDs where the server takes them, else its text, and stamps what comes
as it comes. Where the server gives IDs, they are the tokens; where it gives text alone, its own count of them stands,
and the IDs are unknown. A command is a child process, ready when it answers; it listens on loopback, at a port of its
own, and wants a key that is drawn for each start. What is not said in a request, the server's own settings decide.

Options:
  command       words of the command; {python}, {model_folder}, {converted_file}, {name}, {host}, {port}, {file},
                {threads}, {gpus}, {dtype} and {seed} are filled in, and what a load asks for: {parallel} requests at
                once, each in a {context}, {contexts} of all of them, {kv_bytes} for these, {batched} tokens a step
  container     the runtime (docker, podman) of a container that the command starts by the name {container}
  variables     of the command's process, by name
  key_variable  the variable of the command's process that holds the key
  file_form     the content of {file}, with the key in place of {key}
  url           instead of a command: the address of a server that runs already
  key_from      with it: the variable of Kasoku's own environment that holds its key
  model         with it: which of its models; absent: its only one
  protocol      how it is asked (kasoku_server_protocols.py has them); absent: as it calls itself
"""

from __future__ import annotations

import contextlib
import math
import os
import time

import kasoku_http
from kasoku_engine import Engine, Request, Scores, UnsupportedError
from kasoku_failure import ServerError
from kasoku_served import MODELS, models_of
from kasoku_server_identity import NAMES, identity, version_at
from kasoku_server_process import StartedServer
from kasoku_server_protocols import PROTOCOLS, Piece, protocol_for
from kasoku_server_response import ServerResponse
from kasoku_server_serving import SILENT_SHARE, ServerServing
from kasoku_server_words import words_for

OPTIONS = ("command", "container", "file_form", "key_from", "key_variable", "model", "protocol", "url", "variables")
SHARE_OF_LOADING = 0.9  # of the session's deadline, after which the block would end without a sentence of ours
LOAD_S = 900.0
BYTES_PER_TOKEN = 1 << 16
BYTES_BESIDE = 1 << 20
DIES_S = 2.0
OF_A_REQUEST = ("prompt", "messages", "input_ids", "seed", "sampling_seed")
NOT_OURS = "Kasoku did not start the server"


class ServerEngine(ServerServing, Engine):
    """A server, and the connection over which one request at a time is made; under a load, a connection for each."""

    def load(self, job: dict) -> dict:
        self.options = dict(job.get("options") or {})
        for name in self.options:
            if name not in OPTIONS:
                raise UnsupportedError("The server engine has no option %r; it has %s." % (name, ", ".join(OPTIONS)))
        if bool(self.options.get("command")) == bool(self.options.get("url")):
            raise UnsupportedError("The server engine takes either a command or a url.")
        self.job = job
        self.cached_of_last: int | None = None
        self.cached_of_timed: list = []
        self.counted_only = self.ended_elsewhere = False
        self.keeps_connections = True  # as far as is known
        self.silent_s = min(kasoku_http.SILENT_S, SILENT_SHARE * float(job.get("token_deadline_s") or math.inf))
        self.started = self._start(job) if self.options.get("command") else None
        self.container = self.started.container if self.started else None
        self.server = self.started.server() if self.started else self._running()
        served = self._served()
        self.model = self._chosen(served)
        self.owner = served[self.model]
        self.protocol = self._protocol()
        said = None if self.started else identity(self.server, self.owner, self.model)
        version = version_at(self.server, self.protocol.version_path) or (said or {}).get("version")
        name = self.owner if said is None or self.owner in NAMES else said["name"]
        columns = ("weights_bytes", "dtype", "device", "threads")
        return {
            **dict.fromkeys(columns),
            "missing": dict.fromkeys(columns, self._unsaid()),
            "versions": {name or "server": version} if version else {},
            "resolved": {
                "sampling": self._sampling(),
                "server": {
                    "command": self.started.command if self.started else None,
                    "url": self.options.get("url"),
                    "model": self.model,
                    "owned_by": self.owner,
                    "path": self.protocol.path,
                    **({"container": self.container.facts} if self.container else {}),
                    **({} if said is None else {**said, "version": version}),
                },
            },
        }

    def prepare(self, request: Request) -> None:  # noqa: ARG002
        self.server.connect()  # as a client that keeps its connection

    def generate(self, request: Request, emit: object) -> str | None:
        asked = (request.prompt_ids, request.max_new_tokens, request.stop_token_ids, request.seed)
        self.cached_of_last = None
        try:
            response = self._streamed(self.protocol, asked, emit)
            whole = response.end()
        except ServerError:
            self.say_if_dead()
            raise
        self.cached_of_last = whole.cached_prompt_tokens
        self.note(response, None if request.warmup else whole)
        return whole.finish

    def cached_prompt_tokens(self) -> int | None:
        return self.cached_of_last

    def timed_ends(self) -> None:
        self.peak_rss_bytes = self.started.peak_rss_bytes() if self.started else None

    def evidence(self) -> dict:
        known = None not in self.cached_of_timed and bool(self.cached_of_timed)
        facts = {
            "served_by": self.owner or None,
            "cached_prompt_tokens": sum(self.cached_of_timed) if known else None,
            "fresh_process": self.started is not None,
            "token_ids": not self.counted_only,
            "sampling": self._sampling(),
            "incomparable": self._incomparable(),
        }
        missing = {}
        if not known:
            missing["cached_prompt_tokens"] = "The server does not say how many it reused."
        if not self.owner:
            missing["served_by"] = "The server does not say what it is."
        return {**facts, "missing": missing}

    def greedy(self, prompt_ids: list) -> dict:
        if not self.protocol.gives_ids:
            raise UnsupportedError("the server gives text, not token IDs")
        asked = self.job["sampling"]
        ids: list = []
        margins: list = []
        greedy = type(self.protocol)(self.model, {}, margins=True)
        stops = asked.get("stop_token_ids") or ()
        self._streamed(greedy, (prompt_ids, asked["max_new_tokens"], stops, 0), ids.extend, margins).end()
        if None in ids:
            raise UnsupportedError("the server held some token IDs back")
        return {"ids": ids, "margins": margins if len(margins) == len(ids) else [None] * len(ids)}

    def score_prefill(self, ids: list, scored: int) -> Scores:
        return self.protocol.scores(self.server, ids, scored)

    def score_decode(self, ids: list, scored: int) -> Scores:  # noqa: ARG002
        raise UnsupportedError("a server generates no given IDs over HTTP")

    def memory(self) -> dict:
        columns = ("peak_allocated_bytes", "peak_reserved_bytes", "kv_reserved_bytes")
        missing = dict.fromkeys(columns, self._unsaid())
        if self.peak_rss_bytes is None:
            unseen = self.container.facts["unseen"] if self.container else ""
            missing["peak_rss_bytes"] = "Of the container, %s." % unseen if unseen else self._unsaid()
        return {**dict.fromkeys(columns), "peak_rss_bytes": self.peak_rss_bytes, "missing": missing}

    def _unsaid(self) -> str:
        """Why a fact of the server's process is not known."""
        return "A server does not say it over HTTP." if self.started else "It is not known: %s." % NOT_OURS

    def close(self) -> None:
        self.server.close()
        if self.started:
            self.started.end()

    def _start(self, job: dict) -> StartedServer:
        within_s = float(job.get("load_deadline_s") or LOAD_S) * SHARE_OF_LOADING
        started = StartedServer(self.options, words_for(job), job.get("private_folder"))
        started.wait_until_ready(MODELS, within_s)
        if started.container is not None:
            started.container.look()
        return started

    def _running(self) -> kasoku_http.Server:
        name = self.options.get("key_from")
        key = os.environ.get(name) if name else None
        if name and not key:
            raise UnsupportedError("The variable %s, which is to hold the server's API key, is not set." % name)
        ends_ns = self.job.get("ends_ns")
        until = math.inf if ends_ns is None else time.monotonic() + (ends_ns - time.perf_counter_ns()) / 1e9
        return kasoku_http.Server(self.options["url"], key, until)

    def _served(self) -> dict:
        """Who owns each of the server's models, by name."""
        return dict(models_of(self.server))

    def _chosen(self, served: dict) -> str:
        wanted = self.options.get("model")
        names = ", ".join(self.server.said(name) for name in served) or "none"
        if wanted is not None and wanted not in served:
            raise UnsupportedError("The server at %s has no model %s; it has %s." % (self.server.name, wanted, names))
        if wanted is None and len(served) != 1:
            raise UnsupportedError(
                "The server at %s has %d models: name one of %s." % (self.server.name, len(served), names)
            )
        return wanted or next(iter(served))

    def _protocol(self) -> object:
        ids, chat = bool(self.job["prompts"][0]), bool(self.job.get("prompt_template"))
        name = self.options.get("protocol") or protocol_for(self.owner, ids, chat)
        if name not in PROTOCOLS:
            raise UnsupportedError("No server is asked by the protocol %r; choose %s." % (name, ", ".join(PROTOCOLS)))
        return PROTOCOLS[name](self.model, self.job["sampling"])

    def _streamed(self, protocol: object, asked: tuple, emit: object, margins: list | None = None) -> ServerResponse:
        """The response to (ids, most, stop ids, seed), emitted as it comes."""
        response = ServerResponse(protocol, self.server.said, asked, emit, margins)
        events = self.server.events(protocol.path, self.body_of(protocol, asked), self.most_bytes(asked[1]))
        with contextlib.closing(events):
            for event in events:
                response.take(event)
                if response.cut:
                    break
        return response

    def body_of(self, protocol: object, asked: tuple) -> dict:
        """What is posted for (ids, most, stop ids, seed)."""
        prompt_ids, most, stop_token_ids, seed = asked
        return protocol.body(self.prompt_of(prompt_ids), most, list(stop_token_ids), seed)

    def prompt_of(self, prompt_ids: list) -> object:
        """What is sent for a prompt: its ids, or a text."""
        if self.protocol.takes_ids and prompt_ids:
            return list(prompt_ids)
        text = self.job.get("prompt_text")
        if text is None:
            raise UnsupportedError("This server takes text, not token IDs, and the session's prompt has no text.")
        return text

    def most_bytes(self, tokens: int) -> int:
        """Of a response with at most so many."""
        return BYTES_BESIDE + tokens * BYTES_PER_TOKEN

    def new_protocol(self) -> object:
        """For a response beside others."""
        return type(self.protocol)(self.model, self.job["sampling"])

    def note(self, response: ServerResponse, whole: Piece | None) -> None:
        """A response is over; `whole` is what the server has counted of a timed one."""
        self.counted_only = self.counted_only or not response.tokens
        self.ended_elsewhere = self.ended_elsewhere or response.ended_elsewhere
        if whole is not None:
            self.cached_of_timed.append(whole.cached_prompt_tokens)

    def say_if_dead(self) -> None:
        """Raises ServerError that says how the server ended, where it did: a broken stream is only what follows."""
        if self.started is None:
            return
        deadline = time.monotonic() + DIES_S
        while time.monotonic() < deadline:
            self.started.check()
            if self.started.listens():
                return
            time.sleep(0.02)

    def _sampling(self) -> dict:
        """What the server is asked for, without the prompt and the seed, which are a request's own."""
        asked = self.job["sampling"]
        body = self.protocol.body([], asked["max_new_tokens"], list(asked.get("stop_token_ids") or ()), 0)
        inner = {
            name: {key: each for key, each in value.items() if key not in OF_A_REQUEST}
            for name, value in body.items()
            if isinstance(value, dict)
        }
        return {name: value for name, value in {**body, **inner}.items() if name not in OF_A_REQUEST}

    def _incomparable(self) -> list:
        """How this measurement departs from the session's settings."""
        found = self.protocol.departures()
        if not self.protocol.fixed_length and not self.job["sampling"].get("stop_token_ids"):
            found.append("a response may end at the model's EOS")
        if not (self.protocol.takes_ids and self.job["prompts"][0]):
            found.append("the prompt is sent as text")
        if self.ended_elsewhere:
            found.append("a response ended at a token that is none of the session's stop tokens")
        return found


ENGINE = ServerEngine
