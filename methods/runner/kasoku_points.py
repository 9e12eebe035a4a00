"""The points of a load, one after another: a failure at one is its own, and the others go on."""

from __future__ import annotations

import sys
import time
import traceback

import kasoku_failure
from kasoku_bare_load import BareLoad
from kasoku_load import Load, Point
from kasoku_wire import ReaderGoneError

STATUSES = {"oom": "oom", "unsupported": "unavailable"}


class Points:
    """Those of a job, in its order, for a loaded engine.

    Of a calibration, `bare_points` are served without the wire, and there is a pause before each.
    """

    def __init__(self, engine: object, job: dict, requests: list, wire: object) -> None:
        self._engine, self._wire = engine, wire
        self._bare, self._pause_s = frozenset(job.get("bare_points") or ()), job.get("pause_s") or 0
        self._left = [
            Point(entry, [request for request in requests if request.place == entry["place"]])
            for entry in job["points"]
        ]
        self._failures: list = []  # of points: their fields of an `error` line

    def warm_up(self) -> None:
        """The warm-ups of each; a point that cannot be served, or fails in them, is over."""
        for point in list(self._left):
            reason = self._engine.cannot_serve(point)
            if reason:
                self._end(point, {"kind": "unsupported", "message": reason, "detail": ""})
            else:
                self._carried_out(point, [request for request in point.requests if request.warmup])

    def measure(self) -> None:
        """The timed requests of each that is left. What the last failure was passes through where none is."""
        for point in list(self._left):
            time.sleep(self._pause_s)
            self._wire.send("point", t=self._wire.clock(), place=point.place)
            if self._carried_out(point, [request for request in point.requests if not request.warmup], reset=True):
                self._wire.send("point_end", t=self._wire.clock(), place=point.place, status="ok")
        if not self._left:
            raise NoPointError(self._failures[-1])

    def _carried_out(self, point: Point, requests: list, reset: bool = False) -> bool:
        load = None
        try:
            if reset:
                self._engine.reset()
            bare = reset and point.place in self._bare
            load = (BareLoad if bare else Load)(point, requests, self._wire)
            self._engine.serve(load)
            if not load.over:
                raise RuntimeError("The engine has left requests of %s unserved." % point.name)
            load.tell()
            return True
        except ReaderGoneError:
            raise
        except (Exception, SystemExit) as error:
            traceback.print_exc(file=sys.stderr)
            failure = kasoku_failure.described(error)
        if load is not None:
            load.break_off()
        self._end(point, failure)
        return False

    def _end(self, point: Point, failure: dict) -> None:
        self._left.remove(point)
        self._failures.append(failure)
        status = STATUSES.get(failure["kind"], "failed")
        self._wire.send("point_end", t=self._wire.clock(), place=point.place, status=status, error=failure["message"])


class NoPointError(kasoku_failure.UnsupportedError):
    """No point of the load was measured: what became of the last."""
