"""Many requests in flight in vLLM: one task for each in the event loop of its AsyncLLM."""

from __future__ import annotations

import asyncio

MOST_BATCHED_TOKENS = 8192  # in one step, where several prompts are read


class VllmServing:
    """The part of `VllmEngine` that serves a load."""

    def cannot_serve(self, point: object) -> str:
        return "vLLM would find a filled cache by its prefix caching alone, which is off." if point.depth else ""

    def reset(self) -> None:
        self._completed(self.engine.reset_prefix_cache())

    def serve(self, load: object) -> None:
        if load.point.most == 1:
            super().serve(load)
            return
        self._completed(self._serve(load))
        self.speculated()  # of all of them together: whose step it was is not known

    async def _serve(self, load: object) -> None:
        running: set = set()
        try:
            while not load.over:
                for request in load.take():
                    running.add(asyncio.ensure_future(self._serve_one(request, load)))
                wait_s = load.wait_s()
                if not running:
                    await asyncio.sleep(wait_s or 0.0)
                    continue
                ended, running = await asyncio.wait(running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _serve_one(self, request: object, load: object) -> None:
        self.requests_made += 1
        parameters = self.sampling.parameters(request.max_new_tokens, request.stop_token_ids)
        reason = None
        async for output in self.engine.generate(
            {"prompt_token_ids": request.prompt_ids}, parameters, request_id="kasoku-%d" % self.requests_made
        ):
            completion = output.outputs[0]
            if completion.token_ids:
                load.emit(request, completion.token_ids)
            if output.num_cached_tokens is not None:
                request.cached_prompt_tokens = max(request.cached_prompt_tokens or 0, output.num_cached_tokens)
            reason = completion.finish_reason or reason
        load.end(request, {"length": "length", "stop": "eos"}.get(reason))
        if not request.warmup:
            self.cached_of_timed.append(request.cached_prompt_tokens)
