"""An app to a server of apps, in packets on its standard streams, standard library only: it says back what it is told.

packet_app.py [stubborn]      stubborn: it reads nothing and ends at no signal that can be ignored

It delivers a file when it gets the key "f", and quits when it is asked to or has lost its input.
"""

from __future__ import annotations

import json
import signal
import sys
import time

FILE = b"<svg>\xff" * 10


def send(kind: bytes, payload: bytes) -> None:
    sys.stdout.buffer.write(kind + len(payload).to_bytes(4, "big") + payload)
    sys.stdout.buffer.flush()


def deliver() -> None:
    send(
        b"M",
        json.dumps(
            {
                "type": "deliver_file_start",
                "key": "the-key",
                "path": "/folder/a \u201cscreen\u201d.svg",
                "open_method": "browser",
                "mime_type": "image/svg+xml",
                "encoding": "",
                "name": None,
            }
        ).encode(),
    )


def main() -> None:
    sys.stdout.buffer.write(b"__GANGLION__\n")
    send(b"D", b"here")
    if "stubborn" in sys.argv:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(600)
    chunks = [FILE, b""]
    while header := sys.stdin.buffer.read(5):
        payload = sys.stdin.buffer.read(int.from_bytes(header[1:], "big"))
        if header[:1] == b"D":
            send(b"D", b"got " + payload)
            if payload == b"f":
                deliver()
            continue
        match json.loads(payload):
            case {"type": "quit"}:
                send(b"M", b'{"type": "exit"}')
                return
            case {"type": "deliver_chunk_request"}:
                chunk = chunks.pop(0)
                send(b"P", b"ts13:deliver_chunks7:the-key%i:%se" % (len(chunk), chunk))
            case told:
                send(b"D", b"told " + json.dumps(told).encode())


if __name__ == "__main__":
    main()
