"""All layers of a decode step in one kernel (kasoku_resident_layers.cu): for which models and cards there is one, how
its work is divided, and what launches it.

CUDA C++ rather than Triton, as its programs wait for one another and have their warps do different things.
"""

from __future__ import annotations

import copy
import ctypes
import itertools
from pathlib import Path

import kasoku_resident_state as places
from kasoku_cuda_driver import Kernel
from kasoku_nvrtc import compiled
from kasoku_resident_shape import LAYER_NORM, NO_NORM
from kasoku_resident_weights import BIASED, PLAIN

SOURCES = tuple("kasoku_resident_" + name for name in ("card.cuh", "exchange.cuh", "attend.cuh", "layers.cu"))
LEAST_CAPABILITY = (9, 0)  # bulk copies into shared memory
MOST_PIECE_BYTES = 4096  # of a row that are copied at once
PIECES_OF = 512  # numbers: a piece is a multiple of so many
# Warps that multiply, and that fetch: twelve in all, so that each thread may have 168 registers. More of them fetch
# faster, which long rows need.
FORMS = ({"warps": 10, "fetchers": 2}, {"warps": 9, "fetchers": 3}, {"warps": 8, "fetchers": 4})
MOST_SLOTS, LEAST_SLOTS = 12, 2
SPLITS = (1, 2, 4, 8)
# Pieces under way while a program waits for words and while it works, and pieces between two looks for that: few let
# words pass, many keep the memory busier, and where there is no room for so many nothing is looked for but room. Last
# how many of 32 words are new before all threads look for their own.
PACING = {"waiting": (8, 4), "working": (64, 24), "together": (32, 16, 8), "awaited": (32, 16, 1)}
HEADS = (32, 64, 128, 256)  # numbers of a head, of which a lane has eight
ROLE_BYTES = 7 * 4
MATRICES = ("qkv", "out", "mlp", "down")
ROLES = (*MATRICES, "head")


class Given(ctypes.Structure):
    """What the kernel is given, as its source declares it."""

    _fields_ = (
        ("matrices", ctypes.c_void_p),
        ("biases", ctypes.c_void_p * 5),
        ("scales", ctypes.c_void_p * 5),
        ("lowered", ctypes.c_void_p * 5),
        *((name, ctypes.c_void_p) for name in ("gains", "shifts", "x", "qkv", "attended", "between", "inner", "after")),
        *(
            (name, ctypes.c_void_p)
            for name in ("keys", "values", "turn", "scores", "seen", "position", "bests", "counts")
        ),
        ("stamps", ctypes.c_void_p),
        *((name, ctypes.c_float) for name in ("scaling", "epsilon", "penalty")),
        *((name, ctypes.c_uint32) for name in PACING),
    )


def reason_against(step: object) -> str | None:
    """Why a step has no such kernel, or None."""
    import torch

    shape, weights = step.shape, step.weights
    if not step.on_gpu or torch.cuda.get_device_capability() < LEAST_CAPABILITY:
        return "a card before Hopper"
    if step.keys.dtype not in (torch.float16, torch.bfloat16):
        return "numbers of another type than float16 and bfloat16"
    kinds = {(matrix.format, matrix.scales is None) for matrix in weights.matrices()}
    if kinds not in ({(PLAIN, True)}, {(BIASED, False)}):
        return "float8 weights"
    if shape.head_norm:
        return "norms of heads"
    if shape.norm == NO_NORM or shape.head not in HEADS:
        return "heads of %d numbers" % shape.head
    widths = (shape.width, shape.inner, shape.heads * shape.head)
    at_once = 16 // weight_bytes(step)  # what is copied begins where sixteen bytes do
    if any(width % at_once for width in widths):
        return "a width that %d does not divide" % at_once
    if shape.heads > programs_of_card():
        return "more heads than multiprocessors"
    if len({layer.scaling for layer in weights.layers}) > 1:
        return "layers that scale attention differently"
    return None if slots_of(step, FORMS[0]["warps"]) >= LEAST_SLOTS else "vectors too long for shared memory"


def programs_of_card() -> int:
    import torch

    return torch.cuda.get_device_properties(0).multi_processor_count


def architecture() -> str:
    import torch

    return "sm_%d%d" % torch.cuda.get_device_capability()


def divisions(step: object) -> list:
    """Ways of dividing the work to begin with: how many programs share a head, and the first form and way of pacing."""
    splits = [each for each in SPLITS if step.shape.heads * each <= programs_of_card()]
    return [{"splits": each, **FORMS[0], **ways_of_pacing()[0]} for each in splits]


def ways_of_pacing() -> list:
    """All of PACING with one another."""
    return [dict(zip(PACING, each)) for each in itertools.product(*PACING.values())]


def key_of(step: object) -> str:
    """What a division of the work was found for."""
    shape = step.shape
    sizes = (
        shape.layers,
        shape.width,
        shape.inner,
        shape.heads,
        shape.kv_heads,
        shape.head,
        shape.vocabulary,
        step.length,
    )
    return "whole %s %s %d" % ("x".join(map(str, sizes)), step.keys.dtype, weight_bytes(step))


def weight_bytes(step: object) -> int:
    return step.matrix("head", 0).weights.element_size()


def piece_of(step: object) -> int:
    """Numbers of a row that are copied and multiplied at once: no more than the model is wide, but for what fills that
    up."""
    return min(MOST_PIECE_BYTES // weight_bytes(step), rounded_up(step.shape.width, PIECES_OF))


def norm_before(step: object, role: str, layer: int) -> object | None:
    """The norm after which a matrix is multiplied, if there is one."""
    if role == "head":
        return step.weights.last_norm
    norms = {"qkv": "before_attention", "mlp": "before_mlp"}
    return getattr(step.weights.layers[layer], norms[role]) if role in norms else None


def outside(step: object) -> bool:
    """Whether norms are applied to products rather than before them: what they are made of is then not yet divided by
    anything, and float16 might not hold it."""
    import torch

    return step.keys.dtype == torch.bfloat16


def is_lowered(step: object, role: str) -> bool:
    """Whether the products of a role are less what a vector's mean adds to them."""
    return outside(step) and step.shape.norm == LAYER_NORM and norm_before(step, role, 0) is not None


def beside_rows(step: object, role: str, layer: int) -> tuple:
    """(biases, scales, lowered) of a matrix's rows, each float32 or None: of W (g (x - m) r + s) + b, with a norm's
    gains g and shifts s, are left r (W g x - m lowered) + biases.
    """
    matrix = step.matrix(role, layer)
    biases = None if matrix.biases is None else matrix.biases.float()
    if not is_lowered(step, role):
        return biases, matrix.scales, None
    norm = norm_before(step, role, layer)
    shift = matrix.times(norm.bias)
    if matrix.scales is not None:
        shift = shift * matrix.scales
    return shift if biases is None else biases + shift, matrix.scales, matrix.times(norm.weight)


def layout(step: object, warps: int, slots: int) -> dict:
    """The sizes of what a program has in shared memory, as macros of the kernel, in numbers of four bytes."""
    shape, programs = step.shape, programs_of_card()
    rows = {role: step.matrix(role, 0).rows for role in ROLES}
    widths = {role: step.matrix(role, 0).width for role in rows}
    together = {"mlp": 4 if shape.gated else 2}
    most = {role: -(-(rows[role] // together.get(role, 1)) // programs) * together.get(role, 1) for role in rows}
    piece = piece_of(step)
    tiles = {role: most[role] * -(-widths[role] // piece) for role in rows}
    biased = [most[role] for role in MATRICES if step.matrix(role, 0).biases is not None or is_lowered(step, role)]
    scaled = [most[role] for role in MATRICES if step.matrix(role, 0).scales is not None]
    lowered = [most[role] for role in MATRICES if is_lowered(step, role)]
    return {
        "VECTOR_WORDS": max(-(-max(widths.values()) // piece) * piece // 2, warps * shape.head),
        "PART_FLOATS": rounded_up(max(8 * max(tiles[role] for role in MATRICES), tiles["head"]), 4),
        "OWN_FLOATS": rounded_up(most["out"], 2),
        "BIAS_FLOATS": rounded_up(max(biased, default=0), 2),
        "SCALE_FLOATS": rounded_up(max(scaled, default=0), 2),
        "LOWERED_FLOATS": rounded_up(max(lowered, default=0), 2),
        "SLOTS": slots,
    }


def shared_bytes(step: object, warps: int, slots: int) -> int:
    sizes = layout(step, warps, slots)
    ring = warps * sizes.pop("SLOTS")
    again = sizes["BIAS_FLOATS"] + sizes["SCALE_FLOATS"] + sizes["LOWERED_FLOATS"]  # of two phases
    numbers = sum(sizes.values()) + again + 3 * step.shape.head + 6 * warps + 3
    barriers_and_addresses = 2 * ring + 4 * step.shape.layers + 1
    return (
        ring * piece_of(step) * weight_bytes(step)
        + numbers * 4
        + barriers_and_addresses * 8
        + ctypes.sizeof(Given)
        + len(ROLES) * ROLE_BYTES
        + 4
    )


def slots_of(step: object, warps: int) -> int:
    """Pieces of each of so many warps in shared memory: as many as there is room for; 0 where not even one."""
    import torch

    room = torch.cuda.get_device_properties(0).shared_memory_per_block_optin
    return max((slots for slots in range(1, MOST_SLOTS + 1) if shared_bytes(step, warps, slots) <= room), default=0)


def rounded_up(number: int, to: int) -> int:
    return -(-number // to) * to


class Whole:
    """The kernel for one step, with its work divided as `division` says, and the words between its programs."""

    def __init__(self, step: object, division: dict, trace: bool = False) -> None:
        import torch

        self.step, self.division, self._kept = step, dict(division), []
        shape, self._programs = step.shape, programs_of_card()
        warps, fetchers = division["warps"], division["fetchers"]
        slots, layers = slots_of(step, warps), step.shape.layers
        device = step.device
        stamps = self._made(self._programs, 4 * layers + 1, 4, kind=torch.int64) if trace else None
        self.stamps = stamps
        splits = division["splits"]
        if shape.heads * splits > self._programs:
            raise ValueError("Each head's part of the positions takes a program, and they must be there at once.")
        words = {
            "qkv": (shape.heads + 2 * shape.kv_heads) * shape.head,
            "attended": shape.heads * splits * (shape.head + 1),
            "between": shape.width,
            "inner": shape.inner,
            "after": shape.width,
        }
        matrices = [step.matrix(role, layer) for layer in range(layers) for role in MATRICES] + [step.matrix("head", 0)]
        addresses = torch.tensor([each.weights.data_ptr() for each in matrices], dtype=torch.int64, device=device)
        norms = [norm for layer in step.weights.layers for norm in (layer.before_attention, layer.before_mlp)]
        norms.append(step.weights.last_norm)
        counts = self._made(2, kind=torch.int32)
        state = step.state.data_ptr()
        self._given = Given(
            matrices=self._keep(addresses), **self._beside_rows(),
            gains=self._keep(torch.stack([norm.weight.float() for norm in norms])),
            shifts=self._keep(torch.stack([norm.bias.float() for norm in norms])) if shape.norm == LAYER_NORM else None,
            **{name: self._keep(self._made(size, kind=torch.int32)) for name, size in words.items()},
            x=step.x.data_ptr(), keys=step.keys.data_ptr(), values=step.values.data_ptr(), turn=step.turn.data_ptr(),
            scores=step.scores.data_ptr(), position=state + 8 * places.POSITION, bests=step.bests.data_ptr(),
            counts=self._keep(counts), stamps=None if stamps is None else stamps.data_ptr(),
            scaling=float(step.weights.layers[0].scaling), epsilon=float(shape.epsilon),
            **{name: division[name] for name in PACING},
        )  # fmt: skip
        macros = {
            "WIDTH": shape.width, "HEADS": shape.heads, "KV_HEADS": shape.kv_heads, "HEAD": shape.head,
            "INNER": shape.inner, "VOCABULARY": shape.vocabulary, "LAYERS": layers, "GATED": int(shape.gated),
            "ACTIVATION": shape.activation, "LAYER_NORM": int(shape.norm == LAYER_NORM), "ROPE": int(shape.rope),
            "HALF": int(step.keys.dtype == torch.float16), "LENGTH": step.length, "PROGRAMS": self._programs,
            "WEIGHT_BYTES": weight_bytes(step), "PIECE": piece_of(step),
            "WARPS": warps, "FETCHERS": fetchers, "SPLITS": splits, "OUTSIDE": int(outside(step)),
            "GROUPS": places.GROUPS, "TRACE": int(trace), **layout(step, warps, slots),
        }  # fmt: skip
        source = "\n".join(Path(__file__).with_name(name).read_text(encoding="ascii") for name in SOURCES)
        code = compiled(source, architecture(), macros)
        threads = (warps + fetchers) * 32
        self._kernel = Kernel(code, "resident_layers", threads, shared_bytes(step, warps, slots), step.pdl)

    def formed(self, form: dict) -> Whole:
        """The same in another of FORMS."""
        return Whole(self.step, {**self.division, **form})

    def paced(self, way: dict) -> Whole:
        """The same kernel with another way of pacing."""
        other = copy.copy(self)
        other.division = {**self.division, **way}
        other._given = Given.from_buffer_copy(self._given)
        for name, number in way.items():
            setattr(other._given, name, number)
        return other

    def launch_of(self, asked: bool) -> object:
        """What launches it; penalised, where `asked` for and anything is."""
        penalty = self.step.sampling.penalty if asked else 1.0
        given = Given.from_buffer_copy(self._given)
        given.penalty = penalty
        given.seen = self.step.seen.data_ptr() if penalty != 1 else None
        return lambda: self._kernel.launch(self._programs, given)

    def _beside_rows(self) -> dict:
        """The addresses of what goes with rows, of all layers, for each role; None where it has none."""
        import torch

        found = {name: (ctypes.c_void_p * 5)() for name in ("biases", "scales", "lowered")}
        for place, role in enumerate(ROLES):
            layers = range(1 if role == "head" else self.step.shape.layers)
            for all_roles, own in zip(found.values(), zip(*(beside_rows(self.step, role, each) for each in layers))):
                all_roles[place] = None if own[0] is None else self._keep(torch.stack(own))
        return found

    def _made(self, *size: int, kind: object) -> object:
        import torch

        return torch.zeros(size, dtype=kind, device=self.step.device)

    def _keep(self, tensor: object) -> int:
        """The address of a tensor, which lives as long as the kernel."""
        self._kept.append(tensor)
        return tensor.data_ptr()
