"""Prompts of the engine `resident`, read by transformers: on a GPU, short ones by replaying a CUDA graph of it.

A model's kernels for a short prompt take the GPU less time than the host takes to launch them one by one. A graph is
captured while loading for each length that the job's prompts have, filled up to a multiple of FILLED_TO: no position
attends to a later one, so that what fills a prompt up changes none of its keys and values.
"""

from __future__ import annotations

import contextlib
import warnings

from kasoku_cache import layers_of
from kasoku_forced import unexplained
from kasoku_resident_trial import MOST

FILLED_TO = 32
LONGEST = 1024  # ids: a graph holds their keys and values, and what it works in
LONGEST_IN_ALL = 2048  # of all graphs together


class Prompts:
    """Reads prompts by `model`, of transformers, whose parts are where `layout` says (kasoku_resident_shape)."""

    def __init__(self, model: object, layout: object) -> None:
        self.base = model.get_submodule(layout.base)  # without the output layer
        self.embeddings = model.get_submodule(layout.embeddings)
        self.positions = model.get_submodule(layout.positions).num_embeddings if layout.positions else LONGEST
        self.graphs: dict = {}
        self.replays = 0

    def read(self, ids: list) -> list:
        """(keys, values), each (1, KV heads, ids, head), of each layer, for all of `ids`. What a graph has read is
        overwritten when it reads the next prompt.
        """
        import torch

        if not ids:
            return []
        graph = self.graphs.get(filled(len(ids)))
        if graph is None:
            return self.kept(torch.tensor([ids], dtype=torch.long, device=self.embeddings.weight.device))
        self.replays += 1
        return [(keys[:, :, : len(ids)], values[:, :, : len(ids)]) for keys, values in graph.read(ids)]

    def kept(self, ids: object) -> list:
        """The same of a tensor of ids (1, ids), by launching kernel by kernel."""
        import torch

        with torch.no_grad():
            # embedded here, as transformers looks for padding in ids, for which the host waits
            cache = self.base(inputs_embeds=self.embeddings(ids), use_cache=True).past_key_values
        return [(layer.keys, layer.values) for layer in layers_of(cache)]

    def capture(self, lengths: list, captured: object) -> dict:
        """Have prompts of these lengths read by graphs, which `captured` (Graph) makes. Returns {"lengths": those that
        they are filled up to}, and a "reason" where one is not read so.
        """
        said: dict = {"lengths": []}
        wanted = sorted({filled(length) for length in lengths if length})
        for length in wanted:
            if length > min(LONGEST, self.positions):
                said["reason"] = "longer than %d ids" % min(LONGEST, self.positions)
            elif sum(self.graphs) + length > LONGEST_IN_ALL:
                said["reason"] = "lengths of more than %d ids together" % LONGEST_IN_ALL
            else:
                reason = self._capture(length, captured)
                if reason:
                    said["reason"] = reason
                    break
                said["lengths"].append(length)
        return said

    def _capture(self, length: int, captured: object) -> str:
        """Why a graph for this length could not be had, or nothing."""
        others = list(self.graphs.values())
        ids = [1 + place % 7 for place in range(length - FILLED_TO // 2)]
        exact = self.read(ids)[-1]
        try:
            self.graphs[length] = captured(self, length, others[0] if others else None)
        except RuntimeError as error:  # of torch, where something in between waits for the GPU
            return str(error).partition("\n")[0] or type(error).__name__
        rests = [unexplained(as_rows(theirs), as_rows(ours)) for theirs, ours in zip(exact, self.read(ids)[-1])]
        if None in rests or max(rests) > MOST:
            del self.graphs[length]
            return "a graph of transformers' kernels gives other keys and values than they do"
        return ""


class Graph:
    """A CUDA graph that reads `length` ids. `other` is another one, in whose memory it may work."""

    def __init__(self, prompts: Prompts, length: int, other: Graph | None) -> None:
        import torch

        device = prompts.embeddings.weight.device
        self.ids = torch.zeros((1, length), dtype=torch.long, device=device)
        torch.cuda.synchronize()
        with never_waiting():  # as a capture that fails would leave more behind than this
            prompts.kept(self.ids)  # so that everything is compiled
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=other.graph.pool() if other is not None else None):
            self.cache = prompts.kept(self.ids)

    def read(self, ids: list) -> list:
        """(keys, values) of each layer, for the ids and what fills them up."""
        import torch

        self.ids[0, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        self.graph.replay()
        return self.cache


@contextlib.contextmanager
def never_waiting() -> object:
    """Within it torch raises RuntimeError where the host waits for the GPU."""
    import torch

    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not see everything
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def filled(length: int) -> int:
    """The length that a prompt of so many ids is filled up to."""
    return -(-length // FILLED_TO) * FILLED_TO


def as_rows(states: object) -> object:
    """Keys or values (1, KV heads, ids, head) as float64 (ids, KV heads × head)."""
    return states[0].transpose(0, 1).flatten(1).double().cpu().numpy()
