"""The recording that `kasoku --demo` plays, made from a finished session: writes tui/demo/recording.zip.

    python benchmarks/demo_recording.py SESSION [--out tui/demo/recording.zip]

Plan and journal are kept as they are, but for: telemetry at a tenth of its rate, the home's path and the machine's
boot id, which say nothing to others, and the generated text beside its token ids, since the model's tokeniser is not
shipped.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from methods.base.home import home  # noqa: E402 - the checkout is put on the path first
from methods.text.tokeniser import Tokeniser  # noqa: E402
from sessions.disk.journal import prepared  # noqa: E402
from sessions.disk.session_folder import SessionError, SessionFolder  # noqa: E402
from sessions.disk.store import Store  # noqa: E402

EVERY = 10  # of the sampler's ticks
HOME = "/kasoku"
NOWHERE = "00000000-0000-0000-0000-000000000000"


def thinned(folder: SessionFolder, tokeniser: Tokeniser) -> Iterator[dict[str, Any]]:
    """The journal's records, with text beside the ids."""
    streams: dict[tuple[str, int, int], Any] = {}
    tick = 0
    for line in folder.journal.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["k"] == "telemetry":
            tick += 1
            if tick % EVERY:
                continue
            for row in record["rows"]:
                row[5] = round(row[5])
        yield record
        if record["k"] == "tokens" and record["times"]:
            key = (record["method"], record["block"], record["request"])
            stream = streams.setdefault(key, tokeniser.stream())
            said = stream.feed([each for each in record["ids"] if each is not None])
            at = {name: record[name] for name in ("t", "method", "block", "request")}
            yield {"k": "text", **at, "times": record["times"][-1:], "texts": [said], "beside": True}


def anonymous(text: str, kept_home: str, boot_id: str | None) -> str:
    """Without the home's path and the machine's id."""
    text = text.replace(kept_home, HOME)
    return text.replace(boot_id, NOWHERE) if boot_id else text


def main() -> int:
    """Parse the command line, write, say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("session")
    parser.add_argument("--out", type=Path, default=ROOT / "tui" / "demo" / "recording.zip")
    options = parser.parse_args()
    try:
        folder = Store(home() / "sessions").folder(options.session)
        session, model = folder.read(), prepared(folder.journal)
    except SessionError as error:
        print(error, file=sys.stderr)
        return 1
    assert model is not None
    kept_home = str(Path(model.model.folder).parents[1])
    journal = "".join(
        json.dumps(record, separators=(",", ":"), ensure_ascii=False) + "\n"
        for record in thinned(folder, Tokeniser(Path(model.model.folder)))
    )
    files = {
        "journal.ndjson": journal,
        "plan.json": (folder.path / "plan.json").read_text(encoding="utf-8"),
        "session.json": (folder.path / "session.json").read_text(encoding="utf-8"),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(options.out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(f"{folder.id}/{name}")
            said = anonymous(text, kept_home, session.machine.boot_id)
            archive.writestr(entry, said, compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
    print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB, from session {folder.id}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
