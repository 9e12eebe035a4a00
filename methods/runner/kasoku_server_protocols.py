"""How each kind of server is asked for tokens, and what a piece of its stream says.

`openai` is the completions API that nearly every server has, `chat` its chat completions; the others give token IDs:
vLLM's and TensorRT-LLM's completions with their own parameters, llama-server's /completion and SGLang's /generate.
"""

from __future__ import annotations

from kasoku_engine import Scores, UnsupportedError
from kasoku_failure import ServerError


class Piece:
    """What one event brought: `ids` (list of int or None where an id is unknown; None: the server gives none), `text`,
    `finish` (`length`, `eos` or None), `model`, the name of the one that answers, `margins` where they were asked for
    (for each id the best logit minus the second best, or None), and what the server has counted: `output_tokens`,
    `prompt_tokens`, `cached_prompt_tokens`; each None where it says nothing.
    """

    __slots__ = ("cached_prompt_tokens", "finish", "ids", "margins", "model", "output_tokens", "prompt_tokens", "text")

    def __init__(self, text: str = "", ids: list | None = None, finish: str | None = None) -> None:
        self.text, self.ids, self.finish = text, ids, finish
        self.model: object = None
        self.margins: list | None = None
        self.output_tokens: int | None = None
        self.prompt_tokens: int | None = None
        self.cached_prompt_tokens: int | None = None


class OpenAi:
    """Completions of any server: what it is not sure to know is left out, so that a response may end at an EOS."""

    path = "/v1/completions"
    gives_ids = False
    takes_ids = False
    takes_stop_ids = False
    fixed_length = False
    version_path: str | None = None

    def __init__(self, model: str, sampling: dict, margins: bool = False) -> None:
        self.model, self.sampling, self.margins = model, sampling, margins
        self.begin()

    def begin(self) -> None:
        """A new response."""
        self.seen = 0

    def body(self, prompt: object, most: int, stop_token_ids: list, seed: int) -> dict:
        """The request's JSON; `prompt` is a list of ids, or a text."""
        temperature = float(self.sampling.get("temperature") or 0.0)
        asked = {
            "model": self.model,
            **self.prompt(prompt),
            "max_tokens": most,
            "temperature": temperature,
            "seed": seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.more(stop_token_ids),
        }
        if temperature > 0:
            asked["top_p"] = float(self.sampling.get("top_p") or 1.0)
        return asked

    def prompt(self, prompt: object) -> dict:
        return {"prompt": prompt}

    def more(self, stop_token_ids: list) -> dict:  # noqa: ARG002
        """Parameters beyond OpenAI's."""
        return {}

    def departures(self) -> list:
        """What of the session's sampling this server is not told, a phrase each."""
        told = []
        if int(self.sampling.get("top_k") or 0) and float(self.sampling.get("temperature") or 0.0) > 0:
            told.append("no top-k")
        if float(self.sampling.get("repetition_penalty") or 1.0) != 1.0:
            told.append("no repetition penalty")
        return told

    def scores(self, server: object, ids: list, scored: int) -> Scores:  # noqa: ARG002
        """The scores of the last `scored` of `ids`, read as a prompt. UnsupportedError where the API has none."""
        raise UnsupportedError("this server hands out no probabilities of a prompt")

    def take(self, event: object) -> Piece:
        """The piece in one event of the stream. Raises ServerError where it is of another form."""
        piece = Piece()
        choice = None
        try:
            if event.get("choices"):
                choice = event["choices"][0]
                piece.text = self.text(choice)
                piece.ids = self.ids(choice)
                piece.margins = self.margins_of(choice) if self.margins else None
                finish = choice.get("finish_reason")
                piece.finish = None if finish is None else "length" if finish == "length" else "eos"
            piece.model = event.get("model") or None
            take_usage(piece, event.get("usage"))
        except (AttributeError, KeyError, TypeError, IndexError):
            raise ServerError("The server's stream is not of the form of %s." % self.path) from None
        return piece

    def text(self, choice: dict) -> str:
        return choice.get("text") or ""

    def ids(self, choice: dict) -> list | None:  # noqa: ARG002
        return None

    def margins_of(self, choice: dict) -> list | None:  # noqa: ARG002
        """By how much each token of the piece was ahead of the next likely one, in nats."""
        return None


class Chat(OpenAi):
    """Chat completions: the server's own chat template is put around a text."""

    path = "/v1/chat/completions"

    def prompt(self, prompt: object) -> dict:
        return {"messages": [{"role": "user", "content": prompt}]}

    def text(self, choice: dict) -> str:
        delta = choice.get("delta") or {}
        return "".join(delta.get(name) or "" for name in ("reasoning_content", "reasoning", "content"))


class Vllm(OpenAi):
    """vLLM's completions: ids in and out, a fixed length."""

    gives_ids = takes_ids = takes_stop_ids = fixed_length = True
    version_path: str | None = "/version"

    def prompt(self, prompt: object) -> dict:
        return {"prompt": prompt, "add_special_tokens": isinstance(prompt, str)}

    def more(self, stop_token_ids: list) -> dict:
        asked = {
            "return_token_ids": True,
            # a response ends at the job's stop ids, the same for every engine, and at no others; a server's own model's
            # are known to the server alone
            "ignore_eos": bool(stop_token_ids) or not self.sampling.get("stop_at_eos"),
            "repetition_penalty": float(self.sampling.get("repetition_penalty") or 1.0),
        }
        if self.margins:
            asked.update(logprobs=2, return_tokens_as_token_ids=True)
        if stop_token_ids:
            asked["stop_token_ids"] = list(stop_token_ids)
        if float(self.sampling.get("temperature") or 0.0) > 0 and self.sampling.get("top_k"):
            asked["top_k"] = int(self.sampling["top_k"])
        return asked

    def departures(self) -> list:
        return []

    def scores(self, server: object, ids: list, scored: int) -> Scores:
        body = {"model": self.model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1}
        told = server.ask(self.path, body)
        try:
            rows = told["choices"][0]["prompt_logprobs"][-scored:]
            nll = [-float(row[str(token)]["logprob"]) for row, token in zip(rows, ids[-scored:])]
            top1 = [next(int(each) for each, about in row.items() if about["rank"] == 1) for row in rows]
        except (KeyError, IndexError, TypeError, ValueError, StopIteration):
            raise ServerError("The server's prompt_logprobs are not those of the prompt.") from None
        if len(nll) != scored:
            raise ServerError("The server gave %d probabilities for a prompt of %d tokens." % (len(nll), len(ids)))
        return Scores(nll, top1)

    def ids(self, choice: dict) -> list | None:
        ids = choice.get("token_ids")  # an older one does not know the parameter
        return None if ids is None else list(ids)

    def margins_of(self, choice: dict) -> list | None:
        rows = (choice.get("logprobs") or {}).get("top_logprobs") or ()
        return [margin(list(row.values()) if row else []) for row in rows]


class VllmChat(Chat, Vllm):
    """vLLM's chat completions, with IDs."""

    takes_ids = False

    def __init__(self, model: str, sampling: dict, margins: bool = False) -> None:  # noqa: ARG002
        super().__init__(model, sampling)  # it says them in another form


class TensorRt(Vllm):
    """TensorRT-LLM's completions: with `detokenize` off they hold ids. It refuses parameters that it does not know."""

    def __init__(self, model: str, sampling: dict, margins: bool = False) -> None:  # noqa: ARG002
        super().__init__(model, sampling)  # without text it names no tokens

    def scores(self, server: object, ids: list, scored: int) -> Scores:
        return OpenAi.scores(self, server, ids, scored)

    def more(self, stop_token_ids: list) -> dict:
        asked = super().more(stop_token_ids)
        del asked["return_token_ids"]
        return {**asked, "detokenize": False}


class LlamaCpp(OpenAi):
    """llama-server's own /completion. An id whose text is not yet whole characters is held back by the server, and only
    its count is told with the next piece. It ends a response at what its own file says ends one, and is told no others.
    """

    path = "/completion"
    gives_ids = takes_ids = fixed_length = True
    version_path = "/props"

    def body(self, prompt: object, most: int, stop_token_ids: list, seed: int) -> dict:
        sampling = self.sampling
        temperature = float(sampling.get("temperature") or 0.0)
        self.most = most
        return {
            "prompt": prompt,
            "n_predict": most,
            "temperature": temperature,
            "top_k": int(sampling.get("top_k") or 0) if temperature > 0 else 1,
            "top_p": float(sampling.get("top_p") or 1.0),
            "min_p": 0.0,
            "repeat_penalty": float(sampling.get("repetition_penalty") or 1.0),
            "repeat_last_n": len(prompt) + most,  # all; -1, which once meant that, is refused by newer servers
            "seed": seed,
            "ignore_eos": not self.sampling.get("stop_at_eos") and not stop_token_ids,
            "cache_prompt": False,
            "return_tokens": True,
            "stream": True,
            **({"n_probs": 2} if self.margins else {}),
        }

    def departures(self) -> list:
        return []

    def take(self, event: object) -> Piece:
        try:
            piece = Piece(event.get("content") or "", list(event.get("tokens") or ()))
            counted = event.get("tokens_predicted")
            if event.get("stop"):
                piece.finish = "length" if event.get("stop_type") == "limit" else "eos"
                piece.prompt_tokens = count_of(event.get("tokens_evaluated"))
                piece.cached_prompt_tokens = count_of((event.get("timings") or {}).get("cache_n"))
                piece.output_tokens = count_of(counted)
            if self.margins and piece.ids:
                rows = event.get("completion_probabilities") or ()
                piece.margins = [margin([each["logprob"] for each in row["top_logprobs"]]) for row in rows]
            if isinstance(counted, int):
                held_back = counted - self.seen - len(piece.ids)
                piece.ids = [None] * min(held_back, self.most + 1) + piece.ids  # one too many is enough to be said
        except (AttributeError, KeyError, TypeError):
            raise ServerError("The server's stream is not of the form of %s." % self.path) from None
        self.seen += len(piece.ids)
        return piece


class SGLang(OpenAi):
    """SGLang's own /generate. Its `output_ids` are those since the last event, or all, as the server was started."""

    path = "/generate"
    gives_ids = takes_ids = takes_stop_ids = fixed_length = True
    version_path = "/server_info"

    def body(self, prompt: object, most: int, stop_token_ids: list, seed: int) -> dict:
        sampling = self.sampling
        temperature = float(sampling.get("temperature") or 0.0)
        parameters = {
            "max_new_tokens": most,
            "temperature": temperature,
            "ignore_eos": True,
            "repetition_penalty": float(sampling.get("repetition_penalty") or 1.0),
        }
        if temperature > 0:
            parameters.update(top_p=float(sampling.get("top_p") or 1.0), top_k=int(sampling.get("top_k") or 0) or -1)
            parameters["sampling_seed"] = seed
        if stop_token_ids:
            parameters["stop_token_ids"] = list(stop_token_ids)
        return {"input_ids": prompt, "sampling_params": parameters, "stream": True}

    def departures(self) -> list:
        return []

    def take(self, event: object) -> Piece:
        try:
            told = event["meta_info"]
            ids, counted = list(event["output_ids"]), told["completion_tokens"]
            new = ids if len(ids) + self.seen == counted else ids[self.seen :]
            finish = told.get("finish_reason")
            piece = Piece("", new)
            if finish is not None:
                piece.finish = "length" if finish.get("type") == "length" else "eos"
                piece.output_tokens = count_of(counted)
                piece.prompt_tokens = count_of(told.get("prompt_tokens"))
                piece.cached_prompt_tokens = count_of(told.get("cached_tokens"))
        except (AttributeError, KeyError, TypeError):
            raise ServerError("The server's stream is not of the form of %s." % self.path) from None
        self.seen += len(piece.ids)
        return piece


PROTOCOLS = {
    "openai": OpenAi,
    "chat": Chat,
    "vllm": Vllm,
    "vllm-chat": VllmChat,
    "tensorrt-llm": TensorRt,
    "llamacpp": LlamaCpp,
    "sglang": SGLang,
}
# What a server calls itself in GET /v1/models, where that tells which of these it speaks.
OWNERS = {"vllm": "vllm", "llamacpp": "llamacpp", "sglang": "sglang", "tensorrt_llm": "tensorrt-llm"}


def margin(log_probs: list) -> float | None:
    """The best minus the second best; None of fewer."""
    best = sorted(log_probs, reverse=True)[:2]
    return float(best[0] - best[1]) if len(best) == 2 else None


def take_usage(piece: Piece, usage: dict | None) -> None:
    """What an OpenAI-compatible server counted, into the piece."""
    if not usage:
        return
    piece.output_tokens = count_of(usage.get("completion_tokens"))
    piece.prompt_tokens = count_of(usage.get("prompt_tokens"))
    piece.cached_prompt_tokens = count_of((usage.get("prompt_tokens_details") or {}).get("cached_tokens"))


def count_of(told: object) -> int | None:
    """A server's number of tokens; None where it is none."""
    return told if type(told) is int and 0 <= told < 2**31 else None


def protocol_for(owner: str, ids: bool, chat: bool) -> str:
    """How a server of that owner is asked: with the prompt's IDs where it takes them, else with its text, as a turn of
    a chat or as it is.
    """
    spoken = OWNERS.get(owner)
    if spoken is not None and ids:
        return spoken
    if chat:
        return "vllm-chat" if spoken == "vllm" else "chat"
    return spoken if spoken in ("vllm", "llamacpp") else "openai"
