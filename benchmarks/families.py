"""Families of causal language models, one tiny random model each: which of them load, generate and are counted right.

    python -m benchmarks.families --torch PYTHON [--article PYTHON] [--out docs/results/families.md] [FAMILY …]

The models are made and run by the runner's own engine, many families in one process (benchmarks/families_in_torch.py).
What a token must read is compared with two sums made otherwise: of the weights without which a decoding step has other
logits (each is spoilt in turn), and of what the cache holds after a long response.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine_line import machine_line
from methods.base.progress import silent
from methods.models.config import facts_in, read_json
from methods.models.making import make_readable
from methods.models.model import Model
from sessions.frames.bandwidth_limit import TokenBytes, bytes_per_token
from sessions.frames.config_differences import differences

HERE = Path(__file__).parent
RUNNER = HERE.parent / "methods" / "runner"
WORKER = HERE / "families_in_torch.py"
PARTS = ("evidence", "weights", "cache", "again", "static")
HEAD = (
    "| family | loads and generates | loaded again, as by `resume` | static cache | bytes per token"
    " | from the config alone | article's transformers |\n|---|---|---|---|---|---|---|"
)
Found = Mapping[str, Any]


def run_all(python: Path, entries: Sequence[Mapping[str, object]]) -> Iterator[Found]:
    """What came of each; a family that takes the process with it is said, and the rest go on in another."""
    left = list(entries)
    while left:
        told = 0
        command = [str(python), "-I", str(WORKER), "run", str(RUNNER)]
        lines = "".join(json.dumps(entry) + "\n" for entry in left)
        with tempfile.TemporaryFile("w+") as given:
            given.write(lines)
            given.seek(0)
            with subprocess.Popen(
                command, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as process:
                for line in process.stdout or ():
                    told += 1
                    yield json.loads(line)
        if told < len(left):
            yield {"family": left[told]["family"], "error": f"the process ended with status {process.returncode}"}
        left = left[told + 1 :]


def read_by_a_token(found: Found, folder: Path, *, seen: bool) -> TokenBytes:
    """What the session's frames would say of it, at the length that the long response had."""
    known, config = facts_in(folder), read_json(folder / "config.json")
    model = Model(
        name=folder.name,
        source=str(folder),
        folder=folder,
        weights_digest="",
        parameters=0,
        weights_bytes=0,
        dtype="float32",
        layers=known.layers,
        kv_heads=known.kv_heads,
        head_dim=known.head_dim,
        context_length=known.context_length,
        vocab_size=known.vocab_size,
        hidden_size=known.hidden_size,
    )
    loaded = found["loaded"]
    shown = {"token_reads": found.get("evidence", {}).get("token_reads")} if seen else {}
    length = float(found["cache"][0])
    return bytes_per_token(
        model, config, "float32", loaded["weights_bytes"], length, loaded["resolved"]["config"], shown
    )


def verdict_on_bytes(found: Found, folder: Path, *, seen: bool) -> str:
    """`right`, the reason of none, or both figures."""
    if "weights" not in found or "cache" not in found:
        return f"not checked: {found.get('weights_error') or found.get('cache_error')}"
    said = read_by_a_token(found, folder, seen=seen)
    if said.total is None:
        return f"none: {said.reason}"
    length, held = found["cache"]
    # a cache that slides holds one position less than is read: the newest is added in the step itself
    reads = found.get("evidence", {}).get("token_reads") or {}
    slid = sum(count * growth for count, growth, _, window in reads.get("cache", ()) if window and window <= length)
    by_hand = found["weights"] + held + slid
    return "right" if said.total == by_hand else f"WRONG: {said.total:,.0f}, by hand {by_hand:,.0f}"


def row(found: Found, old: Found | None, folder: Path) -> list[str]:
    """The cells of one family."""
    if "ids" not in found:
        return [f"no: {found.get('error')}", *["–"] * 4, _article(found, old)]
    static = found.get("static")
    reserved = f"{static['bytes']:,} bytes" if static and static["bytes"] is not None else None
    return [
        "yes" if found["ids"][0] == found["ids"][1] else "yes, but other ids each time",
        "same ids" if found.get("again") == found["ids"] else f"no: {found.get('again_error', 'other ids')}",
        reserved or (f"none: {static['reason']}" if static else f"refused: {found.get('static_error')}"),
        verdict_on_bytes(found, folder, seen=True),
        verdict_on_bytes(found, folder, seen=False),
        _article(found, old),
    ]


def _article(found: Found, old: Found | None) -> str:
    if old is None:
        return "not tried"
    if "ids" not in old:
        return f"refuses: {old.get('error')}"
    if "ids" not in found:
        return "loads it"
    other = differences(old["loaded"]["resolved"]["config"], found["loaded"]["resolved"]["config"], "new")
    if other:
        return f"flagged: {'; '.join(other)}"
    return "same ids" if old["ids"] == found["ids"] else "OTHER IDS, unflagged"


def table(rows: Mapping[str, Sequence[str]]) -> str:
    """The Markdown table."""
    cells = [[family, *each] for family, each in sorted(rows.items())]
    return "\n".join([HEAD, *("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in cells)])


def page(rows: Mapping[str, Sequence[str]], not_made: Mapping[str, str], versions: str) -> str:
    """The page that docs/results keeps."""
    counts = {
        "load, generate, and give the same ids when loaded again": sum(
            each[0] == "yes" and each[1] == "same ids" for each in rows.values()
        ),
        "have the right bytes per token": sum(each[3] == "right" for each in rows.values()),
        "have none, with the reason": sum(each[3].startswith("none") for each in rows.values()),
        "have wrong ones": sum(each[3].startswith("WRONG") for each in rows.values()),
        "have wrong ones from the config alone": sum(each[4].startswith("WRONG") for each in rows.values()),
        "give the same ids in the article's transformers": sum(each[5] == "same ids" for each in rows.values()),
        "are refused there, or flagged": sum(each[5].startswith(("refuses", "flagged")) for each in rows.values()),
        "differ there unflagged": sum(each[5].startswith("OTHER") for each in rows.values()),
    }
    summary = "\n".join(f"- {count} {what}" for what, count in counts.items())
    lacking = "".join(f"\n- {family}: {reason}" for family, reason in not_made.items())
    return (
        "# Families of causal language models\n\n"
        f"`python -m benchmarks.families`: one tiny random model each, float32. {versions}\n\n"
        "Bytes per token are compared with a sum by hand: of the weights without which a decoding step has other\n"
        "logits, and of what the cache holds after 47 positions. An engine that cannot look at its model,\n"
        "such as vLLM's, has them from the config alone.\n\n"
        f"Of {len(rows)} families:\n\n{summary}\n\n{table(rows)}\n"
        + (f"\nNot tried, as their configs refuse these sizes:\n{lacking}\n" if lacking else "")
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", type=Path, required=True, help="a Python with torch and transformers 5")
    parser.add_argument("--article", type=Path, help="a Python with the article's transformers 4.35")
    parser.add_argument("--out", type=Path, help="write the page there instead of printing it")
    parser.add_argument("families", nargs="*", help="those to try (default: the list in families_in_torch.py)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        made, old_folder = Path(work) / "new", Path(work) / "old"
        made.mkdir()
        command = [str(given.torch), "-I", str(WORKER), "make", str(made), *given.families]
        not_made = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        folders = sorted(made.iterdir())
        whole = [{"family": each.name, "folder": str(each), "parts": PARTS} for each in folders]
        found = {each["family"]: each for each in run_all(given.torch, whole)}
        old = {}
        if given.article:
            readable = []
            for each in folders:
                (old_folder / each.name).mkdir(parents=True)
                make_readable(each, old_folder / each.name, None, silent, trust_remote_code=False)
                readable.append({"family": each.name, "folder": str(old_folder / each.name), "parts": ()})
            old = {each["family"]: each for each in run_all(given.article, readable)}
        rows = {name: row(each, old.get(name), made / name) for name, each in found.items()}
        seen: Mapping[str, str] = next((each["loaded"]["versions"] for each in found.values() if "loaded" in each), {})
        text = page(rows, not_made, f"{json.dumps(seen)}; {machine_line()}")
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
