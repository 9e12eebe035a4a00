"""Many requests in flight in vLLM: one task for each in the event loop of its AsyncLLM.

Where a request is to begin with tokens in the cache, they are computed by a request of their own just before, and found
by vLLM's prefix caching, which is on for that alone: no other request looks there.
"""

from __future__ import annotations

import asyncio
import contextlib

MOST_BATCHED_TOKENS = 8192  # in one step, where several prompts are read


class VllmServing:
    """The part of `VllmEngine` that serves a load."""

    def cannot_serve(self, point: object) -> str:
        if not point.depth:
            return ""
        if point.rate or (point.concurrency or 1) > 1:
            return (
                "vLLM would fill the cache of one request while it works on others; with --batch it fills all before."
            )
        size, caching = self.config.cache_config.block_size, self.config.cache_config.enable_prefix_caching
        if not (caching and self.finds_prefixes):
            return "This vLLM cannot find a filled cache: its prefix caching is off, or is on for every request."
        if point.depth % size:
            return "vLLM caches what was read in blocks of %d tokens: take a --depth that is a multiple of it." % size
        return ""

    def prepare(self, request: object) -> None:
        if request.depth:
            self._completed(self._fill([request]))

    def reading(self, depth: int = 0) -> dict:
        """What vLLM's parameters of a request are to say where it finds `depth` tokens in the cache: none look there
        without.
        """
        return {"skip_reading_prefix_cache": True} if self.finds_prefixes and not depth else {}

    async def _fill(self, requests: list) -> None:
        """What these are to find in the cache, and nothing else."""
        await self.engine.reset_prefix_cache()
        for request in requests:
            self.requests_made += 1
            prefix = {"prompt_token_ids": request.prompt_ids[: request.depth]}
            parameters = self.sampling.parameters(1, (), **self.reading())
            async for _ in self.engine.generate(prefix, parameters, request_id="kasoku-%d" % self.requests_made):
                pass

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
        ended: list = []
        one_ended = asyncio.Event()  # waiting for the tasks would cost each of them something whenever one ends

        def end(task: object) -> None:
            ended.append(task)
            one_ended.set()

        try:
            while not load.over:
                if load.point.depth and not running:
                    await self._fill(load.coming())
                for request in load.take():
                    task = asyncio.ensure_future(self._serve_one(request, load))
                    task.add_done_callback(end)
                    running.add(task)
                wait_s = load.wait_s()
                if not running:
                    await asyncio.sleep(wait_s or 0.0)
                    continue
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(one_ended.wait(), wait_s)
                one_ended.clear()
                while ended:
                    task = ended.pop()
                    running.remove(task)
                    task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _serve_one(self, request: object, load: object) -> None:
        self.requests_made += 1
        reading = self.reading(request.depth)
        parameters = self.sampling.parameters(request.max_new_tokens, request.stop_token_ids, **reading)
        reason = cached = None
        async for output in self.engine.generate(
            {"prompt_token_ids": request.prompt_ids}, parameters, request_id="kasoku-%d" % self.requests_made
        ):
            completion = output.outputs[0]
            if completion.token_ids:
                load.emit(request, completion.token_ids)
            if output.num_cached_tokens != cached:
                cached = output.num_cached_tokens
                request.cached_prompt_tokens = max(request.cached_prompt_tokens or 0, cached or 0)
            reason = completion.finish_reason or reason
        load.end(request, {"length": "length", "stop": "eos"}.get(reason))
        if not request.warmup:
            self.cached_of_timed.append(beyond(request.cached_prompt_tokens, request.depth))


def beyond(cached: int | None, depth: int) -> int | None:
    """How many tokens a request found in the cache that were not to be there."""
    return None if cached is None else max(0, cached - depth)
