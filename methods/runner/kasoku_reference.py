"""The job `reference`: what the unquantised model says, with which every method's scores are compared.

 engine, options, model_folder, dtype, device, …    as in the job `measure`, of the reference method
 texts       windows of text: [{ids, scored}]
 contexts    ids, each continued greedily by `scored` more, which makes a window of its own
 folder      takes reference.json and the distributions
 most_bytes  that full distributions may take

reference.json has `continuations`, a list of ids for each context, and for each path `nll`, `top1` and `margin`, a list
per window: those of text, then the others.
"""

from __future__ import annotations

import json
from pathlib import Path

import kasoku_engine
import kasoku_fidelity
import kasoku_scores
from kasoku_failure import BrokenEnvironmentError

FILE = "reference.json"


def run(job: dict, wire: object) -> None:
    """Score the windows, and leave the results in the folder. Raises what the engine raises, and RuntimeError where
    the reference's own scores are not finite."""
    engine = kasoku_engine.take_engine(job["engine"])
    wire.progress("reference", "loading the model")
    try:
        engine.import_packages(job)
    except (ImportError, OSError) as error:
        raise BrokenEnvironmentError(error, job.get("repair") or "repair it") from error
    engine.load(job)
    contexts, scored = job["contexts"], job["scored"]
    continuations = []
    for number, context in enumerate(contexts):
        wire.progress("reference", "its greedy continuations", number, len(contexts), "windows")
        continuations.append(engine.greedy(list(context))["ids"][:scored])
    windows = [(window["ids"], window["scored"]) for window in job["texts"]]
    windows += [([*context, *own], len(own)) for context, own in zip(contexts, continuations)]
    said = {"continuations": continuations}
    for path in kasoku_fidelity.PATHS:
        said[path] = scored_on(path, engine, windows, job, wire)
    with (Path(job["folder"]) / FILE).open("w", encoding="ascii") as file:
        json.dump(said, file, allow_nan=False)
    wire.result({"windows": len(windows)})
    engine.close()


def scored_on(path: str, engine: kasoku_engine.Engine, windows: list, job: dict, wire: object) -> dict:
    """The summaries of one path; its distributions go to the folder."""
    said: dict = {"nll": [], "top1": [], "margin": []}
    kept = None
    total = sum(scored for _, scored in windows)
    for number, (ids, scored) in enumerate(windows):
        wire.progress("reference", "its scores in " + path, number, len(windows), "windows")
        score = kasoku_fidelity.scorer(engine, path)
        scores = kasoku_fidelity.checked(score(list(ids), scored), scored)
        if None in [kasoku_fidelity.finite(each) for each in scores.nll]:
            raise RuntimeError("The reference's own scores are not finite.")
        said["nll"].append(scores.nll)
        said["top1"].append(scores.top1)
        said["margin"].append(kasoku_scores.margins_of(scores.log_probs))
        if kept is None:
            kept = kasoku_scores.Kept(Path(job["folder"]), path, total, scores.log_probs.shape[1], job["most_bytes"])
        kept.add(scores.log_probs)
    return said
