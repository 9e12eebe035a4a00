"""How a team's store grows: listing it from an empty home, in a shared folder and in a bucket of moto's server.

    python benchmarks/store.py [--sessions 100,1000,10000] [--without N] [--folder FOLDER]

A store holds the manifests of so many sessions, rows of a real one under other ids and names, and the rows that the
last publication left; with `--without N`, so many are missing there, as after publications at the same time. `list` is
the listing in a process that has imported what it needs, `process` the whole of `kasoku sessions --store`, with its CPU
time, which does not count the server's; each is the quickest of three. 1 is returned where `process` takes over 2 s.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402 - the checkout is put on the path first

from sessions.disk.session_folder import SessionFolder  # noqa: E402
from sessions.disk.store import Store  # noqa: E402
from sessions.published.manifest import LISTED, Listed, ListedRow, Manifest, encoded, name_of  # noqa: E402
from sessions.published.publish import publish  # noqa: E402
from sessions.published.published import Published  # noqa: E402
from sessions.run.own_process import own_process  # noqa: E402
from tests.published.s3_server import KEYS, serving  # noqa: E402
from tests.tui.journals import write_session  # noqa: E402

BAR_S = 2.0
TRIES = 3


def filled(store: Published, session: SessionFolder, count: int, without: int) -> None:
    """Publish a session, and put `count` - 1 more manifests beside its own."""
    publish(session, store, lambda _: None)
    found = store.manifest(session.id)
    assert found is not None
    rows = [ListedRow(found[0], found[1].published_ns, found[1].row)]

    def one(number: int) -> ListedRow:
        name = f"{20200101 + number // 1000:08}-{number % 1000:06}-{number:06x}"
        row = msgspec.structs.replace(
            found[1].row, id=name, name=f"night {number}", tags=("h200", f"week {number // 50}")
        )
        manifest: Manifest = msgspec.structs.replace(found[1], id=name, row=row)
        revision, content = encoded(manifest)
        store.objects.write(name_of(name, revision), content)
        return ListedRow(revision, manifest.published_ns, row)

    with ThreadPoolExecutor(8) as pool:
        rows += pool.map(one, range(1, count))
    store.objects.write(LISTED, msgspec.json.encode(Listed(rows=rows[without:])))


def measured(url: str, home: Path) -> tuple[float, float, float]:
    """Seconds of a listing and of the whole command, and the latter's CPU seconds."""
    listings, processes, cpu = [], [], []
    for _ in range(TRIES):
        store = Published(url, home)
        began = time.perf_counter()
        store.listed()
        listings.append(time.perf_counter() - began)
        began, before = time.perf_counter(), os.times()
        subprocess.run(
            [*own_process("tui.command_line", "sessions", "--store", url)],
            env={**os.environ, "KASOKU_HOME": str(home)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        processes.append(time.perf_counter() - began)
        after = os.times()
        cpu.append(after[2] + after[3] - before[2] - before[3])  # of children that have ended
    return min(listings), min(processes), min(cpu)


@contextmanager
def places(folder: Path, count: int) -> Iterator[dict[str, str]]:
    """The stores by what they are in."""
    share = folder / f"share-{count}"
    share.mkdir()
    with serving(folder / f"moto-{count}.log") as server:
        os.environ |= {**KEYS, "AWS_ENDPOINT_URL": server, "AWS_EC2_METADATA_DISABLED": "true"}
        request = urllib.request.Request(f"{server}/team", method="PUT")  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=60):  # noqa: S310
            yield {"folder": str(share), "bucket": "s3://team/kasoku"}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sessions", default="100,1000,10000")
    options.add_argument("--without", type=int, default=0)
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    missed = False
    with tempfile.TemporaryDirectory(prefix="kasoku-store-", dir=given.folder) as kept:
        folder = Path(kept)
        for home in ("home", "empty"):
            (folder / home).mkdir(mode=0o700)
        session = write_session(folder / "home")
        for count in map(int, given.sessions.split(",")):
            with places(folder, count) as stores:
                for name, url in stores.items():
                    filled(Published(url, folder / "home"), Store(folder / "home/sessions").folder(session.id), count,
                           given.without)  # fmt: skip
                    listing, process, cpu = measured(url, folder / "empty")
                    missed |= process > BAR_S
                    times = f"list {listing:.2f} s   process {process:.2f} s, {cpu:.2f} s of CPU"
                    print(f"{name:8}{count:>8,} sessions   {times}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
