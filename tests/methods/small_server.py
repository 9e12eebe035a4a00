"""A small server of HTTP/1.1 that generates made-up tokens as vLLM, llama-server, SGLang or a plain server would, with
a fault where one is asked for.

    python small_server.py PORT [--speaks vllm|openai|chat|llamacpp|sglang] [--fault NAME]

It wants the key in KASOKU_TEST_KEY, where that is set, and writes what it was asked, a JSON object a line, to --asked.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODEL = "kasoku"
OWNERS = {
    "vllm": "vllm",
    "llamacpp": "llamacpp",
    "sglang": "sglang",
    "openai": "somebody",
    "chat": "somebody",
    "ollama": "library",
    "lm studio": "organization_owner",
}
TAGS = {"models": [{"name": MODEL, "details": {"parameter_size": "134.52M", "quantization_level": "Q4_K_M"}}]}
STUDIO = {"object": "list", "data": [{"id": MODEL, "arch": "llama", "quantization": "4bit"}]}
WORDS = ("one ", "två ", "three ", "四 ")


class SmallServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        port: int,
        speaks: str = "vllm",
        fault: str = "",
        key: str = "",
        asked: Path | None = None,
        pace_s: float = 0.0,
        together: int = 1,
        patience_s: float = 60.0,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__((host, port), Handler)
        self.socket.listen(128)
        self.speaks, self.fault, self.key, self.asked = speaks, fault, key, asked
        self.pace_s = pace_s  # between two tokens
        self.gate = threading.Barrier(together, timeout=patience_s)  # none is answered before so many ask
        self.posts = itertools.count(1)
        self.connections: set[tuple[str, int]] = set()
        self.headers_seen: list[str | None] = []

    def handle_error(self, *_: object) -> None:
        """A client that has heard enough closes its connection."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: SmallServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing in the log."""

    def do_GET(self) -> None:
        if self._refused():
            return
        if self.path == "/v1/models":
            names = {"two models": [MODEL, "other"], "no model": [], "odd name": ["kas\x1b[31moku"]}.get(
                self.server.fault, [MODEL]
            )
            rows = [{"id": name, "object": "model", "owned_by": OWNERS[self.server.speaks]} for name in names]
            if self.server.fault == "never ready":
                self._answer(503, {"error": {"message": "Loading model"}})
            elif self.server.fault == "goes on for ever":
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    while True:
                        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            elif self.server.fault == "big list":
                self._answer(200, {"data": rows, "more": "x" * (20 << 20)})
            else:
                self._answer(200, {"object": "list", "data": rows})
        elif self.server.speaks == "ollama" and self.path in ("/api/version", "/api/tags"):
            self._answer(200, {"version": "0.12.6"} if self.path == "/api/version" else TAGS)
        elif self.server.speaks == "lm studio" and self.path == "/api/v0/models":
            self._answer(200, STUDIO)
        elif self.server.speaks == "lm studio":  # which answers 200 to whatever it does not know
            self._answer(200, {"error": f"Unexpected endpoint or method. (GET {self.path})"})
        elif self.path == "/version":
            self._answer(200, {"version": "1.2.3"})
        else:
            self._answer(404, {"error": {"message": "Not Found"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.asked is not None:
            with self.server.asked.open("a") as file:
                file.write(json.dumps({"path": self.path, **body}) + "\n")
        if self._refused():
            return None
        fault = self.fault = self._own_fault()
        self.server.connections.add(self.client_address)
        self.server.gate.wait()
        if fault == "500":
            return self._answer(500, {"error": {"message": "CUDA\x1b[31m error: an illegal\r\nmemory access"}})
        if fault == "redirect":
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:1/v1/completions")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if fault == "no stream":
            return self._answer(200, {"choices": [{"text": "all at once"}]})
        if body.get("prompt_logprobs"):
            rows = [scored_as(token) for token in body["prompt"]]
            return self._answer(200, {"choices": [{"text": "x", "prompt_logprobs": [None, *rows[1:]]}]})
        self.margins = bool(body.get("logprobs"))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self._stream(body, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        return None

    def _own_fault(self) -> str:
        """The server's, or that of one request among many: "closed once at 11"."""
        fault, _, place = self.server.fault.partition(" once at ")
        number = next(self.server.posts)
        return fault if not place or number == int(place) else ""

    def _refused(self) -> bool:
        told = self.headers.get("Authorization")
        self.server.headers_seen.append(told)
        if not self.server.key or told == f"Bearer {self.server.key}":
            return False
        self._answer(401, {"error": {"message": f"no such key: {told}"}})
        return True

    def _answer(self, status: int, told: object) -> None:
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def _event(self, told: object) -> None:
        self._chunk(b"data: " + json.dumps(told, ensure_ascii=False).encode() + b"\n\n")

    def _stream(self, body: dict[str, Any], fault: str) -> None:
        prompt, most = asked_of(body)
        length = most + 2 if fault == "ignores the length" else 2 if fault == "ends by itself" else most
        ids = [(sum(prompt) + place) % 1000 for place in range(length)]
        each = 2 if fault == "two a chunk" else 1
        for first in range(0, length, each):
            if first >= 2:
                self._break(fault)
            if self.server.pace_s:
                time.sleep(self.server.pace_s)
            self._say(ids[first : first + each], first + each >= length, first + each, len(prompt))
        if self.server.speaks not in ("llamacpp",):
            self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")
        if fault == "hangs up":  # without having said so, and as the next request comes
            self.rfile.readline()
            self.close_connection = True

    def _break(self, fault: str) -> None:
        """What goes wrong in mid-response."""
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "closed":
            self.close_connection = True
            self.wfile.flush()
            self.connection.close()
            raise BrokenPipeError
        elif fault == "floods":
            while True:
                self._chunk(b": nothing\n\n" * 5000)
        elif fault == "one endless line":
            while True:
                self._chunk(b"data: " + b"x" * 50_000)
        elif fault == "not JSON":
            self._chunk(b"data: {'text':\n\n")
        elif fault == "an error in mid-stream":
            self._event({"error": {"message": "EngineCore died"}})
        elif fault == "hangs":
            time.sleep(600)

    def _say(self, ids: list[int], last: bool, count: int, prompt: int) -> None:
        fault, speaks = self.fault, self.server.speaks
        text = "".join(WORDS[token % len(WORDS)] for token in ids)
        usage = {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}
        if fault == "another tokeniser":
            usage["prompt_tokens"] += 3
        if fault == "reuses more than there is":
            usage["prompt_tokens_details"] = {"cached_tokens": prompt + 1}  # type: ignore[assignment]
        if fault == "no count":
            usage["completion_tokens"] = "some"  # type: ignore[assignment]
        if fault == "miscounts":
            usage["completion_tokens"] += 1
        if speaks == "llamacpp":
            held = fault == "half a character" and not last and count == 2
            count = 10**12 if fault == "counts to the moon" else count
            if not held:
                self._event({"content": text, "tokens": ids[-1:], "stop": False, "tokens_predicted": count})
            if last:
                why = "eos" if fault == "ends by itself" else "limit"
                end = {"content": "", "tokens": [], "stop": True, "stop_type": why, "tokens_predicted": count}
                self._event({**end, "tokens_evaluated": prompt, "timings": {"cache_n": 0}})
            return
        if speaks == "sglang":
            told: dict[str, Any] = {"completion_tokens": count, "prompt_tokens": prompt, "cached_tokens": 0}
            told["finish_reason"] = {"type": "length", "length": count} if last else None
            self._event({"text": text, "output_ids": ids, "meta_info": told})
            return
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if last else None}
        choice |= {"delta": {"content": text}} if self.path == "/v1/chat/completions" else {"text": text}
        if speaks == "vllm":
            choice["token_ids"] = ids
        if self.margins:
            choice["logprobs"] = {"top_logprobs": [{f"token_id:{t}": -0.5, "token_id:0": -0.75} for t in ids]}
        model = "another" if fault == "another model" else MODEL
        if fault == "half a character" and count == 1:  # the first byte of two, in the middle of JSON
            whole = json.dumps({"model": model, "choices": [choice]}, ensure_ascii=False).encode()
            self._chunk(b"data: " + whole.replace(text.encode(), b"\xc3") + b"\n\n")
            return
        content = b"data: " + json.dumps({"model": model, "choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"
        if fault == "torn":  # in two writes, in the middle of whatever is there
            self._chunk(content[: len(content) // 2])
            self._chunk(content[len(content) // 2 :])
        else:
            self._chunk(content)
        if last and fault != "no usage":
            self._event({"model": model, "choices": [], "usage": usage})


@contextlib.contextmanager
def running(
    speaks: str = "openai",
    fault: str = "",
    key: str = "",
    pace_s: float = 0.0,
    together: int = 1,
    patience_s: float = 60.0,
) -> Iterator[SmallServer]:
    """A server that runs already."""
    with SmallServer(0, speaks, fault, key, pace_s=pace_s, together=together, patience_s=patience_s) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def scored_as(token: int) -> dict[str, dict[str, float]]:
    """As vLLM says it of a token of the prompt, and of the likeliest where that is another."""
    own = {str(token): {"logprob": -token / 1000, "rank": 1 if token % 2 else 3}}
    return own if token % 2 else {**own, "7": {"logprob": -0.1, "rank": 1}}


def asked_of(body: dict[str, Any]) -> tuple[list[int], int]:
    """The prompt as ids, of a text one for each word, and how many tokens are asked for."""
    parameters = body.get("sampling_params", {})
    most = body.get("max_tokens") or body.get("n_predict") or parameters.get("max_new_tokens")
    prompt = body.get("input_ids") or body.get("prompt") or body["messages"][0]["content"]
    return ([len(word) for word in prompt.split()] if isinstance(prompt, str) else list(prompt)), int(most)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--speaks", default="vllm")
    parser.add_argument("--fault", default="")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds between two tokens")
    parser.add_argument("--asked", type=Path)
    parser.add_argument("--key-file", type=Path)
    options = parser.parse_args()
    if options.fault == "ends":
        sys.exit("no such model")
    if options.fault == "silent":
        threading.Event().wait()
    key = os.environ.get("KASOKU_TEST_KEY", "")
    if options.key_file is not None:
        key = options.key_file.read_text().strip()
    given = (options.port, options.speaks, options.fault, key, options.asked, options.pace)
    with SmallServer(*given, host=options.host) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
