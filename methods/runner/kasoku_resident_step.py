"""A decode step: its buffers on the device, its kernels in their order, and the graph that replays them.

    for each layer: queries, keys and values · attention · projection · MLP, in · MLP, out
    the output layer · what narrows the choice down and draws, where tokens are sampled · the token, and its embedding,
    which is the same kernel where a short list is drawn from

Where a card and a model allow it, one kernel does all that is before the choice (kasoku_resident_whole).

Nothing in it depends on the host: the position, the tokens so far and the end of the response are on the device.
"""

from __future__ import annotations

import kasoku_resident_knobs as knobs_of
import kasoku_resident_state as places
from kasoku_resident_ring import Ring

GREEDY, ASKED = "greedy", "asked"
ATTENDING = ("resident_attention", "resident_layers")  # the kernels that attend, by name


class Step:
    """One step of a model's `weights`, for sequences up to `length`. `sampling` is an AskedSampling; `rotary` is
    (cosines, sines) of all positions, float32 (length, head), or None.
    """

    def __init__(self, shape: object, weights: object, length: int, sampling: object, rotary: tuple | None, pdl: bool):
        import torch

        self.shape, self.weights, self.length, self.sampling, self.pdl = shape, weights, length, sampling, pdl
        device, dtype = weights.embeddings.device, weights.embeddings.dtype
        self.device, self.on_gpu = device, device.type == "cuda"

        def made(*size: int, kind: object = torch.float32) -> object:
            return torch.zeros(size, dtype=kind, device=device)

        heads, kv_heads, head = shape.heads, shape.kv_heads, shape.head
        self.state = made(places.SIZE, kind=torch.int64)
        self.bests = made(places.GROUPS, kind=torch.int64)
        self.x, self.qkv, self.scores = made(shape.width), made((heads + 2 * kv_heads) * head), made(shape.vocabulary)
        self.attended, self.inner = made(heads * head, kind=dtype), made(shape.inner, kind=dtype)
        self.keys = made(shape.layers, kv_heads, length, head, kind=dtype)
        self.values = torch.zeros_like(self.keys)
        self.cosines, self.sines = rotary if rotary is not None else (self.x, self.x)
        self.turn = made(2, head)  # the cosines and sines of the position
        self.seen = made(shape.vocabulary, kind=torch.int8)
        self.forced = made(length + 1, kind=torch.int64)
        stops = sampling.stop_token_ids or [-1]
        self.stops = torch.full((knobs_of.power_of_two(len(stops)),), -1, dtype=torch.int64, device=device)
        self.stops[: len(stops)] = torch.tensor(stops, device=device)
        self.ring = Ring(length, self.on_gpu)
        self.knobs = {role: knobs_of.default(self.matrix(role, 0), not self.on_gpu) for role in knobs_of.ROLES}
        self.knobs["attention"] = knobs_of.of_attention(shape, length, not self.on_gpu)
        self.knobs["choice"] = knobs_of.of_choice(shape.vocabulary, not self.on_gpu)
        self.whole: object = None  # the one kernel of all layers, where there is one
        self._dims = knobs_of.power_of_two(head)
        self._parts: tuple = ()
        self._made = made
        self._set(0, 1, 0, False)

    def matrix(self, role: str, layer: int) -> object:
        """The matrix of a role, in one of the layers."""
        return self.weights.head if role == "head" else getattr(self.weights.layers[layer], role)

    def kinds(self) -> tuple:
        """The ways of choosing tokens: as was asked for, and greedily, where that is another."""
        plain = self.sampling.temperature == 0 and self.sampling.penalty == 1
        return (GREEDY,) if plain else (GREEDY, ASKED)

    def begin(self, cache: list, prompt_ids: list, limit: int, seed: int, forced: list | None = None) -> None:
        """Before a response of `limit` tokens: `cache` has (keys, values) of each layer for all but the last of the
        prompt's ids, each (1, KV heads, positions, head); with `forced` ids, those are its tokens.
        """
        import torch

        self.ring.clear()
        first = len(prompt_ids) - 1
        if cache:
            keys, values = zip(*cache)
            targets = [whole[:, :first] for whole in (*self.keys, *self.values)]
            torch._foreach_copy_(targets, [each[0] for each in (*keys, *values)])
        self._set(first, limit, seed, forced is not None)
        if forced is not None:
            self.forced[: len(forced)] = torch.tensor(forced, dtype=torch.int64)
        if self.sampling.penalty != 1:
            self.seen.zero_()
            self.seen[torch.tensor(prompt_ids, dtype=torch.int64)] = 1
        self.x.copy_(self.weights.embeddings[prompt_ids[-1]])
        if self.weights.positions is not None:
            self.x += self.weights.positions[first]
        if self.shape.rope:
            self.turn[0], self.turn[1] = self.cosines[first], self.sines[first]

    def halfway(self) -> None:
        """As in the middle of the longest sequence: for timing alone."""
        self._set(self.length // 2, 1, 0, False)

    def _set(self, position: int, limit: int, seed: int, forced: bool) -> None:
        """The numbers with which a response begins."""
        import torch

        state = [0] * places.SIZE
        state[places.POSITION], state[places.LIMIT], state[places.SEED] = position, limit, seed
        state[places.DRAWN], state[places.CUT], state[places.FORCED] = places.LOWEST, places.EVERYTHING, int(forced)
        self.bests.fill_(places.LOWEST)
        self.state.copy_(torch.tensor(state, dtype=torch.int64))

    def launches(self, kind: str) -> list:
        """[(name of the kernel, what launches it)] of one step that chooses as `kind` says, in their order."""
        asked = kind == ASKED
        if self.whole is not None:
            found = [("resident_layers", self.whole.launch_of(asked))]
        else:
            found = [each for number in range(self.shape.layers) for each in self.of_layer(number)]
            found.append(("resident_head", self.head_of(asked)))
        if asked and self.sampling.temperature > 0:
            return found + self._choice()
        return [*found, self._advance(sampled=False)]

    def of_layer(self, number: int) -> list:
        """The same of one layer."""
        return [
            ("resident_qkv", self.qkv_of(number)),
            ("resident_attention", self.attention_of(number)),
            ("resident_add", self.add_of("out", number)),
            ("resident_mlp", self.mlp_of(number)),
            ("resident_add", self.add_of("down", number)),
        ]

    def qkv_of(self, number: int) -> object:
        import kasoku_resident_kernels as kernels

        layer = self.weights.layers[number]
        return self._product(
            "qkv", layer.qkv, kernels.resident_qkv, (self.qkv, self.x), norm=layer.before_attention, more={}
        )

    def mlp_of(self, number: int) -> object:
        import kasoku_resident_kernels as kernels

        layer = self.weights.layers[number]
        how = {"ACTIVATION": self.shape.activation, "GATED": self.shape.gated}
        return self._product(
            "mlp", layer.mlp, kernels.resident_mlp, (self.inner, self.x), norm=layer.before_mlp, more=how
        )

    def add_of(self, role: str, number: int) -> object:
        import kasoku_resident_kernels as kernels

        given = self.attended if role == "out" else self.inner
        return self._product(role, self.matrix(role, number), kernels.resident_add, (self.x, given), norm=None, more={})

    def head_of(self, asked: bool) -> object:
        import kasoku_resident_kernels as kernels

        penalty = self.sampling.penalty if asked else 1.0
        before, after = (self.scores, self.bests, self.seen, self.x), (penalty,)
        return self._product(
            "head", self.weights.head, kernels.resident_head, before, after=after, norm=self.weights.last_norm,
            more={"PENALISED": penalty != 1},
        )  # fmt: skip

    def attention_of(self, number: int) -> object:
        from kasoku_resident_attention import resident_attention

        shape, layer, knobs = self.shape, self.weights.layers[number], self.knobs["attention"]
        gains = [each.weight if each is not None else self.x for each in (layer.query_norm, layer.key_norm)]
        arguments = (
            self.attended, self.qkv, self.keys[number], self.values[number], self.state, *self.turn,
            *gains, *self._shared(knobs["splits"]), float(layer.scaling),
        )  # fmt: skip
        epsilon = 0.0 if layer.query_norm is None else float(layer.query_norm.variance_epsilon)
        return self._launch(
            resident_attention, (shape.heads // knobs["members"], knobs["splits"]), arguments, knobs["warps"],
            HEADS=shape.heads, KV_HEADS=shape.kv_heads, HEAD=shape.head, LENGTH=self.length, EPSILON=epsilon,
            HEAD_NORM=shape.head_norm, ROPE=shape.rope, DIMS=self._dims, MEMBERS=knobs["members"],
            SPLITS=knobs["splits"], BLOCK=knobs["block"], TOGETHER=knobs["together"],
        )  # fmt: skip

    def _shared(self, splits: int) -> tuple:
        """What the programs of one head leave for the last of them, of all heads."""
        import torch

        heads = self.shape.heads
        if not self._parts or self._parts[1].shape[1] != splits:
            arrived = self._made(heads, kind=torch.int32)
            sums, peaks, weights = (self._made(heads, splits, *more) for more in ((self._dims,), (), ()))
            self._parts = (sums, peaks, weights, arrived)
        return self._parts

    def _choice(self) -> list:
        top_k = self.sampling.top_k
        return self._short_list() if 0 < top_k <= min(knobs_of.SHORT, self.shape.vocabulary - 1) else self._narrowed()

    def _short_list(self) -> list:
        """Where top-k keeps few."""
        import torch
        from kasoku_resident_shortlist import resident_pick

        sampling, vocabulary = self.sampling, self.shape.vocabulary
        listed, ids = self._made(vocabulary), self._made(vocabulary, kind=torch.int32)
        asked = (sampling.temperature, sampling.top_k, float(sampling.top_p))
        after, how = self._after()
        pick = (self.state, self.bests, self.scores, listed, ids, *asked, *after)
        return [("resident_pick", self._along_scores(resident_pick, pick, BY_MASS=sampling.top_p < 1, **how))]

    def _narrowed(self) -> list:
        """Where it keeps many, or all."""
        import torch
        from kasoku_resident_choice import BINS, resident_draw, resident_narrow

        sampling, vocabulary = self.sampling, self.shape.vocabulary
        histogram = self._made(BINS, kind=torch.int64)
        found = []
        by_count, by_mass = 0 < sampling.top_k < vocabulary, sampling.top_p < 1
        for by, wanted, asked in ((False, by_count, sampling.top_k), (True, by_mass, sampling.top_p)):
            for fine in (False, True) if wanted else ():
                arguments = (self.state, self.bests, self.scores, histogram, sampling.temperature, float(asked))
                launch = self._along_scores(resident_narrow, arguments, BY_MASS=by, FINE=fine)
                found.append(("resident_narrow", launch))
        draw = self._along_scores(resident_draw, (self.state, self.bests, self.scores, sampling.temperature))
        return [*found, ("resident_draw", draw), self._advance(sampled=True)]

    def _along_scores(self, kernel: object, arguments: tuple, **how: object) -> object:
        knobs, vocabulary = self.knobs["choice"], self.shape.vocabulary
        grid = (-(-vocabulary // knobs["block"]),)
        return self._launch(kernel, grid, arguments, knobs["warps"], VOCABULARY=vocabulary, BLOCK=knobs["block"], **how)

    def _advance(self, sampled: bool) -> tuple:
        from kasoku_resident_choice import resident_advance

        after, how = self._after()
        arguments = (self.state, self.bests, *after)
        return "resident_advance", self._launch(resident_advance, (1,), arguments, 8, SAMPLED=sampled, **how)

    def _after(self) -> tuple:
        """(arguments, constants) of what goes on with a token."""
        weights, width = self.weights, self.shape.width
        learned = weights.positions if weights.positions is not None else self.x
        arguments = (
            self.ring.ids, self.forced, self.stops, self.seen, weights.embeddings, learned,
            self.x, self.cosines, self.sines, self.turn,
        )  # fmt: skip
        how = {
            "WIDTH": width, "PADDED": knobs_of.power_of_two(width), "STOPS": len(self.stops),
            "LEARNED": weights.positions is not None,
            "HEAD": self.shape.head, "DIMS": self._dims, "ROPE": self.shape.rope,
        }  # fmt: skip
        return arguments, how

    def _product(
        self, role: str, matrix: object, kernel: object, before: tuple, norm: object, more: dict, after: tuple = ()
    ) -> object:
        knobs, shape = self.knobs[role], self.shape
        scales = matrix.scales if matrix.scales is not None else self.x
        biases = matrix.biases if matrix.biases is not None else self.x
        turns = knobs["turns"] if role in knobs_of.TURNED else 1
        tile = knobs["tile"] if turns == 1 else knobs_of.power_of_two(matrix.width)
        arguments = (*before, matrix.weights, scales, biases)
        how = {
            "ALL_ROWS": matrix.rows,
            "WIDTH": matrix.width,
            "ROWS": knobs["rows"],
            "TILE": tile,
            "STAGES": knobs["stages"],
            "FORMAT": matrix.format,
            "SCALED": matrix.scales is not None,
            "BIAS": matrix.biases is not None,
            "WHOLE": matrix.width % tile == 0 and matrix.rows % (knobs["rows"] * turns) == 0,
        }
        if role in knobs_of.TURNED:
            how.update(TURNS=turns, PREFETCH=knobs["prefetch"] if self.on_gpu else 0)
        if norm is not None:
            shift = getattr(norm, "bias", None)
            arguments += (norm.weight, norm.weight if shift is None else shift)
            how.update(EPSILON=float(shape.epsilon), NORM=shape.norm, PADDED=knobs_of.power_of_two(matrix.width))
        grid = (-(-matrix.rows // (knobs["rows"] * turns)),)
        return self._launch(kernel, grid, (*arguments, *after), knobs["warps"], **how, **more)

    def _launch(self, kernel: object, grid: tuple, arguments: tuple, warps: int, **how: object) -> object:
        more = {"launch_pdl": True} if self.pdl else {}
        return lambda: kernel[grid](*arguments, **how, PDL=self.pdl, num_warps=warps, **more)


class Replays:
    """Runs one step after another: as a graph where there is one, kernel by kernel where not."""

    def __init__(self, step: Step, kind: str, with_graph: bool) -> None:
        import torch

        self._launches = [launch for _, launch in step.launches(kind)]
        self._graph: object = None
        self.count = 0
        if step.on_gpu and with_graph:
            self._run()  # compiled before it is captured
            torch.cuda.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._run()

    @property
    def is_graph(self) -> bool:
        return self._graph is not None

    def next(self) -> None:
        """Queue one more step."""
        self.count += 1
        if self._graph is not None:
            self._graph.replay()
        else:
            self._run()

    def _run(self) -> None:
        for launch in self._launches:
            launch()
