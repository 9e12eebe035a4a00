"""transformers' continuous batching: its scheduler, and a cache in pages."""

from __future__ import annotations

import contextlib
import copy
import time

import kasoku_generation_config as configs
from kasoku_engine import UnsupportedError
from kasoku_generating import A_FEW, Generating
from kasoku_transformers_hooks import described

PAGE = 256  # tokens: transformers' own default
WAIT_S = 1.0
MOST_BATCH_TOKENS = 4096  # in one step, where several prompts are read
NO_STOP = -1


class ContinuousBatching(Generating):
    """A manager of requests, and a thread of its own that generates for them.

    It has room for `most` requests of `longest` tokens, reads a prompt at once, and shares nothing between requests.
    Its attention is the model's: left alone it would look for a flash kernel on the Hub.
    """

    in_threads = True
    cache = "paged"

    def __init__(self, model: object, config: object, longest: int, most: int) -> None:
        if not hasattr(model, "init_continuous_batching"):
            raise UnsupportedError("This transformers has no continuous batching for this model; 5.17 and later do.")
        self.bare_model, self.config, self._longest, self._most = model, config, longest, most
        self._broken = False
        model.generation_config = config
        self._begin(config)

    def stream(self, request: object, emit: object) -> None:
        self._run(request.prompt_ids, request.max_new_tokens, emit)

    def serve(self, load: object) -> None:
        manager, open_requests = self._manager, {}
        self._broken = True  # unless it comes to the end
        while not load.over:
            for request in load.take():
                name = manager.add_request(
                    list(request.prompt_ids),
                    max_new_tokens=request.max_new_tokens,
                    streaming=True,
                    eos_token_id=self._stops,
                )
                open_requests[name] = [request, 0]
            wait_s = load.wait_s()
            if not open_requests:
                time.sleep(wait_s or 0.0)
                continue
            said = manager.get_result(timeout=WAIT_S if wait_s is None else min(wait_s, WAIT_S))
            if said is None:
                self._check_running()
            elif said.request_id in open_requests:
                self._take(said, open_requests, load)
        self._broken = False

    def reset(self) -> None:
        if self._broken:
            self._end()
            self._begin(self.config)
            self._broken = False

    def whole(self, prompt_ids: list) -> list:
        return self._run(prompt_ids, self.config.max_new_tokens)

    def a_few(self, prompt_ids: list) -> object:
        self._run(prompt_ids, min(A_FEW, self.config.max_new_tokens))
        return self._manager.batch_processor.cache

    def observed(self) -> object:
        return contextlib.nullcontext([described(each) for each in self._manager.logit_processor.logits_processor])

    def greedy(self, prompt_ids: list) -> dict:
        rows: list = []
        with self._as_greedy(), self._rows_to(rows):
            ids = self._run(prompt_ids, self.config.max_new_tokens)
        best = [row.topk(2).values for row in rows]
        return {"ids": ids, "margins": [float(first - second) for first, second in best]}

    def forced(self, prompt: list, ids: list) -> object:
        import torch

        rows: list = []
        with self._as_greedy(), self._rows_to(rows, ids):
            taken = self._run(prompt, len(ids), stops=NO_STOP)
        if taken != list(ids) or len(rows) != len(ids):
            raise UnsupportedError("transformers' continuous batching does not take the ids that are forced upon it.")
        return torch.stack(rows)

    def close(self) -> None:
        self._end()
        del self.bare_model

    def _begin(self, config: object) -> None:
        import torch
        from transformers import ContinuousBatchingConfig

        settings = ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=self._most * -(-self._longest // PAGE) + 1,
            max_batch_tokens=max(self._longest, min(self._most * self._longest, MOST_BATCH_TOKENS)),
            max_requests_per_batch=self._most,
            allow_block_sharing=False,
            auto_switch_to_flash=False,
            drop_unsupported_processors=False,  # it would leave them out silently
        )
        config = copy.deepcopy(config)
        self._stops = config.eos_token_id = config.eos_token_id or NO_STOP
        try:
            with torch.no_grad():
                manager = self.bare_model.init_continuous_batching(
                    generation_config=config, continuous_batching_config=settings
                )
                for processor in manager.logit_processor.logits_processor:
                    if not getattr(processor, "supports_continuous_batching", None):
                        raise UnsupportedError(
                            "transformers' continuous batching cannot apply %s; leave out the setting that asks for it."
                            % type(processor).__name__
                        )
                manager.warmup()
        except ValueError as error:
            raise UnsupportedError("transformers' continuous batching cannot take this model: %s" % error) from error
        manager.start()
        self._manager = manager

    def _end(self) -> None:
        self._manager.stop(block=True)
        self._manager.destroy()

    def _run(self, prompt_ids: list, new_tokens: int, emit: object = None, stops: object = None) -> list:
        manager, ids = self._manager, []
        streaming = emit is not None
        stops = self._stops if stops is None else stops
        if manager.add_request(list(prompt_ids), max_new_tokens=new_tokens, streaming=streaming, eos_token_id=stops):
            while True:
                said = manager.get_result(timeout=WAIT_S)
                if said is None and manager.is_running():
                    continue
                if said is None:
                    break
                new = said.generated_tokens[len(ids) :]
                if new and streaming:
                    emit(new)
                ids += new
                if said.error:
                    raise RuntimeError(said.error)
                if said.is_finished():
                    return ids
        raise self._stopped()

    def _take(self, said: object, open_requests: dict, load: object) -> None:
        """What the manager says of a request: all its tokens until now."""
        entry = open_requests[said.request_id]
        new = said.generated_tokens[entry[1] :]
        if new:
            load.emit(entry[0], new)
            entry[1] += len(new)
        if said.error:
            raise RuntimeError(said.error)
        if said.is_finished():
            del open_requests[said.request_id]
            entry[0].cached_prompt_tokens = 0  # nothing is shared
            load.end(entry[0])

    def _check_running(self) -> None:
        if not self._manager.is_running():
            raise self._stopped()

    def _stopped(self) -> Exception:
        fault = self._manager.background_thread_status.fatal_error
        return RuntimeError("transformers' continuous batching has stopped: %s" % (fault or "it does not say why."))

    @contextlib.contextmanager
    def _as_greedy(self) -> object:
        """While entered, a manager without sampling and penalties."""
        greedy = configs.greedy(self.config)
        if configs.sampling(greedy) == configs.sampling(self.config):
            yield
            return
        self._end()
        self._begin(greedy)
        try:
            yield
        finally:
            self._end()
            self._begin(self.config)

    @contextlib.contextmanager
    def _rows_to(self, rows: list, forced: list | None = None) -> object:
        """While entered, `rows` gets the logits of each new token; `forced` leaves it one id at a time."""
        import torch

        def seen(module: object, arguments: tuple, named: dict, output: object) -> object:  # noqa: ARG001
            logits = output.logits[0] if "logits_to_keep" in named else output.logits[0, named["logits_indices"]]
            for row in logits:
                rows.append(row.to(dtype=torch.float32, copy=True))
                if forced is not None:
                    output.logits.fill_(float("-inf"))
                    output.logits[..., forced[len(rows) - 1]] = 0.0
            return output

        hook = self.bare_model.register_forward_hook(seen, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
