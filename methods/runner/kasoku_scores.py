"""Scores from logits, by torch, and what is read of them: how far ahead the likeliest id is, and divergences."""

from __future__ import annotations

import math
import os
import traceback
from pathlib import Path

from kasoku_engine import Scores

RESOLUTION = 1e-6  # of a sum of float32 probabilities: no rest is less, which makes the bound no larger
LIKELIEST = 1024  # ids kept of each distribution where all of them would take too much room
FULL = "%s.npy"  # float32 [scored ids of all windows, vocabulary]
LIKELIEST_IDS, LIKELIEST_LOG_PROBS = "%s-ids.npy", "%s-log-probs.npy"  # int32 and float32 [scored ids, LIKELIEST]


def scores_of_logits(logits: object, ids: list) -> Scores:
    """The scores of `ids` from a tensor of logits, [ids, vocabulary], each row of the place of its id."""
    import torch

    log_probs = torch.log_softmax(logits.detach().float(), dim=-1)
    places = torch.tensor(ids, dtype=torch.long, device=log_probs.device)
    nll = -log_probs.gather(1, places[:, None])[:, 0]
    return Scores(nll.tolist(), log_probs.argmax(dim=-1).tolist(), log_probs.cpu().numpy())


def margins_of(log_probs: object) -> list:
    """How many nats the likeliest id of each row is ahead of the next."""
    import numpy

    best = numpy.partition(log_probs, -2, axis=-1)[:, -2:]
    return (best[:, 1] - best[:, 0]).astype(float).tolist()


class Distributions:
    """The reference's distributions of one path in a folder, as they were kept there; none where it has none.

    Raises OSError or ValueError where what is there cannot be read.
    """

    def __init__(self, folder: str, path: str) -> None:
        self.full = self.ids = self.log_probs = None
        if os.path.exists(Path(folder) / (FULL % path)):
            self.full = _opened(folder, FULL % path)
        elif os.path.exists(Path(folder) / (LIKELIEST_IDS % path)):
            self.ids = _opened(folder, LIKELIEST_IDS % path)
            self.log_probs = _opened(folder, LIKELIEST_LOG_PROBS % path)

    def divergence(self, first: int, log_probs: object) -> dict:
        """`kl` and `kl_bound` of rows of log probabilities, of the scored ids from number `first` on; with `missing`
        for what is unknown.

        KL(p‖q) = Σ p (ln p − ln q) over the vocabulary, p the reference's; the bound is the divergence
        over the reference's likeliest ids and one bin for the rest, never larger (data-processing inequality).
        """
        if log_probs is None:
            return _untold("The engine hands out no full logits.")
        if self.full is None and self.ids is None:
            return _untold("The reference's distributions are not in the cache.")
        rows = range(first, first + len(log_probs))
        if self.full is not None:
            if self.full.shape[1] != log_probs.shape[1]:
                return _untold("The logits have %d ids, the reference's %d." % (log_probs.shape[1], self.full.shape[1]))
            kl = sum(_divergence(self.full[row], log_probs[row - first]) for row in rows)
            return {"kl": kl} if math.isfinite(kl) else _untold("The divergence is not finite.")
        if int(self.ids[first : first + len(log_probs)].max()) >= log_probs.shape[1]:
            return _untold("The reference's likeliest ids are not all among the engine's.")
        bound = sum(self._binned(row, log_probs[row - first]) for row in rows)
        said = {"kl_bound": bound} if math.isfinite(bound) else _untold("The divergence is not finite.")
        missing = {"kl": "Of the reference's distributions only the likeliest ids are kept.", **said.pop("missing", {})}
        return {**said, "missing": missing}

    def _binned(self, row: int, log_probs: object) -> float:
        import numpy

        p, q = (numpy.exp(each.astype(float)) for each in (self.log_probs[row], log_probs[self.ids[row]]))
        rest = max(0.0, 1.0 - float(p.sum())), max(RESOLUTION, 1.0 - float(q.sum()))
        binned = [numpy.append(each, last) for each, last in zip((p, q), rest)]
        with numpy.errstate(divide="ignore"):
            return _divergence(*(numpy.log(each) for each in binned))


class Kept:
    """Distributions as they are kept in a folder, a window's rows after another's: in full, or, where those of both
    paths would take more than `most_bytes`, of each the likeliest ids. A disk that is full keeps none of a path's.
    """

    def __init__(self, folder: Path, path: str, total: int, vocabulary: int, most_bytes: int) -> None:
        self.full = 2 * 4 * total * vocabulary <= most_bytes
        self.width = vocabulary if self.full else min(LIKELIEST, vocabulary)
        names = {FULL: "<f4"} if self.full else {LIKELIEST_LOG_PROBS: "<f4", LIKELIEST_IDS: "<i4"}
        self.files = {folder / (name % path): kind for name, kind in names.items()}
        for file, kind in self.files.items():
            self._write(file, "wb", lambda out, kind=kind: _write_header(out, kind, (total, self.width)))

    def add(self, log_probs: object) -> None:
        """Keep the next window's rows."""
        import numpy

        rows = {"<f4": log_probs}
        if not self.full:
            ids = numpy.argpartition(log_probs, -self.width, axis=-1)[:, -self.width :]
            rows = {"<f4": numpy.take_along_axis(log_probs, ids, axis=-1), "<i4": ids}
        for file, kind in list(self.files.items()):
            self._write(file, "ab", lambda out, kind=kind: out.write(rows[kind].astype(kind).tobytes()))

    def _write(self, file: Path, mode: str, write: object) -> None:
        if not self.files:
            return
        try:
            with file.open(mode) as out:
                write(out)
        except OSError:
            traceback.print_exc()
            for each in self.files:
                each.unlink()
            self.files = {}


def _write_header(out: object, kind: str, shape: tuple) -> None:
    import numpy

    numpy.lib.format.write_array_header_1_0(out, {"descr": kind, "fortran_order": False, "shape": shape})


def _divergence(log_p: object, log_q: object) -> float:
    import numpy

    log_p, log_q = log_p.astype(float), log_q.astype(float)
    p = numpy.exp(log_p)
    some = p > 0
    return float((p[some] * (log_p[some] - log_q[some])).sum())


def _opened(folder: str, name: str) -> object:
    import numpy

    return numpy.load(Path(folder) / name, mmap_mode="r", allow_pickle=False)


def _untold(reason: str) -> dict:
    return {"missing": {"kl": reason, "kl_bound": reason}}
