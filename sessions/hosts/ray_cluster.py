"""A Ray cluster: the one module that imports Ray, and opens sockets with it.

Ray pickles what it carries. What is sent is the source of one class (at_host.py), and text, bytes and numbers; what
comes back is these alone, and looked at before it is used: but Ray unpickles it first, so that whoever controls a node
or the head controls this process (docs/security.md).
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar
from urllib.parse import urlsplit

from sessions.hosts import at_host
from sessions.hosts.cluster import ClusterLostError, HostLostError, Link, Look
from sessions.hosts.hosts import HostError

CONNECT_S: Final = 5.0
TRIES: Final = 3
PAUSE_S: Final = 2.0
UNSERVED: Final = "Initialization failure from server"  # its process for us did not start, as happens
UNREAD: Final = ("AttributeError", "TypeError", "ImportError", "ModuleNotFoundError")  # of another Ray's pickles
VERSIONS: Final = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
SAME_VERSIONS: Final = "run Kasoku with the cluster's versions of both"
REACH_S: Final = 60.0
ASK_S: Final = 20.0
LIMIT_BYTES: Final = 1 << 20
PIP: Final = "pip install 'kasoku[ray]'"
IN_ITS_FILE: Final = "RAY_AUTH_TOKEN_PATH to the file that holds the cluster's"

Answer = TypeVar("Answer")


def check_reachable(address: str) -> None:
    """Raise ClusterLostError where nothing listens at the cluster's address."""
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error) or "it does not answer"
        raise ClusterLostError(
            f"No Ray cluster answers at {address} ({reason}): start its head with `ray start --head`, and see that its"
            " client port can be reached from here."
        ) from None


def asks_for_token(address: str) -> bool:
    """Whether the cluster does, as far as can be seen from here. Raises HostError where it wants one that is not here:
    to Ray's client such a cluster is one that does not answer, after half a minute."""
    import grpc
    from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc

    try:
        from ray._private.grpc_utils import init_grpc_channel
    except ImportError:  # Ray before 2.52, which has no tokens
        return False
    by_token = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    ping = ray_client_pb2.ClusterInfoRequest(type=ray_client_pb2.ClusterInfoType.PING)
    try:
        with init_grpc_channel(address.removeprefix("ray://")) as channel:
            ray_client_pb2_grpc.RayletDriverStub(channel).ClusterInfo(ping, timeout=CONNECT_S)
        return by_token
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            return True  # whatever it is, connecting finds it too
        raise HostError(
            f"The cluster at {address} does not take the token that is here: set {IN_ITS_FILE}."
            if by_token
            else f"The cluster at {address} wants a token: set RAY_AUTH_MODE=token here, and {IN_ITS_FILE}."
        ) from None
    except Exception as error:  # Ray's own, while it makes the channel
        if by_token and "token" in str(error).lower():
            raise HostError(f"RAY_AUTH_MODE is token, and no token is here: set {IN_ITS_FILE}.") from None
        return True


def refusal(address: str, said: str, ours: str) -> HostError | ClusterLostError:
    """What Ray says where it cannot connect, as ours; `ours` is the version of Ray here."""
    if len(versions := VERSIONS.findall(said)) == 2:
        cluster, here = (f"Ray {ray} on Python {python}" for ray, python in versions)
        return HostError(f"The cluster at {address} has {cluster}, and here is {here}: {SAME_VERSIONS}.")
    if UNSERVED not in said:
        return ClusterLostError(f"The Ray cluster at {address} cannot be used: {_first(said)}")
    last = said.strip().splitlines()[-1].strip()[:200]
    if last.startswith(UNREAD):
        return HostError(
            f"The head at {address} cannot read what Ray {ours} sends from here ({last}): {SAME_VERSIONS}."
        )
    return ClusterLostError(
        f"The head at {address} started no client server for us: its log ray_client_server.err says why."
    )


class RayCluster:
    """A connection to a cluster; `is_open`: it asks for no token. Raises HostError where its Ray cannot be used from
    here, ClusterLostError where it does not answer."""

    def __init__(self, address: str) -> None:
        check_reachable(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "10")  # s; the carrier connects again by itself
        try:
            import ray
            import ray.cloudpickle
        except ImportError:
            raise HostError(f"--on needs Ray, in the version that the cluster has: {PIP}.") from None
        self._ray = ray
        ray.cloudpickle.register_pickle_by_value(at_host)
        self.is_open = not asks_for_token(address)
        for left in reversed(range(TRIES)):
            if self._connected(address, may_fail=left > 0):
                return
            time.sleep(PAUSE_S)

    def _connected(self, address: str, may_fail: bool) -> bool:
        """Connect; False where the head did not start a server for us, which another try may do."""
        try:
            self._ray.init(address, logging_level=logging.ERROR, log_to_driver=False, namespace="kasoku")
        except Exception as error:
            problem = refusal(address, str(error), str(self._ray.__version__))
            if may_fail and UNSERVED in str(error) and isinstance(problem, ClusterLostError):
                self._ray.shutdown()
                return False
            raise problem from None
        return True

    def reach(self, resource: str) -> Link:
        """The host with that resource."""
        nodes = self._guarded(self._ray.nodes)
        alive = [node for node in nodes if node.get("Alive")]
        found = [node for node in alive if resource in node.get("Resources", {})]
        if not found:
            there = sorted({name for node in alive for name in node.get("Resources", {}) if _names_a_host(name)})
            raise HostLostError(f"No host of the cluster has the resource {resource} now; it has {', '.join(there)}.")
        if len(found) > 1 and len({node["NodeManagerAddress"] for node in found}) == 1:  # a raylet and its successor
            raise HostLostError(
                "Ray was started there again, and the cluster has yet to notice that the last one died."
            )
        if len(found) > 1:
            one = " or ".join(f"node:{node['NodeManagerAddress']}" for node in found[:4])
            raise HostError(f"{len(found)} hosts of the cluster have the resource {resource}: name one, by {one}.")
        return self._guarded(lambda: self._linked(found[0]["NodeID"], str(found[0]["NodeManagerAddress"])))

    def _linked(self, node: str, address: str) -> Link:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False)
        kind = self._ray.remote(num_cpus=0, num_gpus=0, max_concurrency=3, max_restarts=0)(at_host.AtHost)
        return _RayLink(self, kind.options(scheduling_strategy=there).remote(), address)

    def wait(self, links: Sequence[Link], timeout_s: float) -> None:
        """Until a look of one of these is over."""
        looks = [link.look for link in links if isinstance(link, _RayLink) and link.look is not None]
        if looks:
            self._guarded(lambda: self._ray.wait(looks, num_returns=1, timeout=timeout_s))

    def get(self, reference: object, timeout_s: float) -> object:
        """What a call on a host returned. Raises HostLostError, ClusterLostError."""
        return self._guarded(lambda: self._ray.get(reference, timeout=timeout_s))

    def is_ready(self, reference: object) -> bool:
        """Whether a call has ended."""
        return bool(self._guarded(lambda: self._ray.wait([reference], num_returns=1, timeout=0))[0])

    def _guarded(self, call: Callable[[], Answer]) -> Answer:
        """The call, with its failures as ours: those that speak of one host; all others are the cluster's."""
        errors = self._ray.exceptions
        try:
            return call()
        except (HostError, HostLostError):
            raise
        except errors.GetTimeoutError:
            raise HostLostError("The host did not answer in time.") from None
        except (
            errors.RayActorError,
            errors.ActorUnschedulableError,
            errors.ObjectLostError,
            errors.RayTaskError,
            errors.WorkerCrashedError,
        ) as error:
            raise HostLostError(f"The host is out of reach: {_first(str(error))}") from None
        except Exception as error:  # whatever gRPC, the client and the head come up with
            raise ClusterLostError(f"The connection to the cluster was lost: {_first(str(error))}") from None


class _RayLink:
    """An actor on a host."""

    def __init__(self, cluster: RayCluster, actor: object, address: str) -> None:
        self._cluster, self._actor, self.address = cluster, actor, address
        self.look: object | None = None

    def errand(self, verb: str, asked: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
        match self._cluster.get(self._begun("errand", verb, asked, timeout_s), timeout_s + REACH_S):
            case (int() as code, bytes() as out, bytes() as err):
                return code, out, err
            case _:
                raise HostLostError("The host answered with something else than Kasoku's.")

    def begin_look(self, folder: str, offset: int, check: str, seen: int, pause_s: float, wait_s: float) -> None:
        self.look = self._begun("look", folder, offset, check, seen, LIMIT_BYTES, pause_s, wait_s)

    def looked(self) -> Look | None:
        if self.look is None or not self._cluster.is_ready(self.look):
            return None
        reference, self.look = self.look, None
        match self._cluster.get(reference, ASK_S):
            case (bytes() as lines, bytes() as session, int() as changed_ns, int() as live):
                return Look(lines, session, changed_ns, live)
            case _:
                raise HostLostError("The host answered with something else than Kasoku's.")

    def ask(self, folder: str, action: str) -> bool:
        return self._cluster.get(self._begun("ask", folder, action), ASK_S) == 1

    def _begun(self, name: str, *arguments: object) -> object:
        return self._cluster._guarded(lambda: getattr(self._actor, name).remote(*arguments))


def _names_a_host(resource: str) -> bool:
    return resource not in ("CPU", "GPU", "memory", "object_store_memory", "node:__internal_head__")


def _first(text: str) -> str:
    """The first 200 characters of the first line that says something."""
    return next((line.strip()[:200] for line in text.splitlines() if line.strip()), "no reason given").rstrip(".") + "."
