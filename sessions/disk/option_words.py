"""How a run's options are put into words where their value alone says too little: each is given the value as it is
shown, and all that the run was asked for.
"""

from collections.abc import Mapping

from sessions.disk.option_table import Value


def requests(shown: str, run: Mapping[str, Value]) -> str:
    blocks = run.get("blocks")
    if isinstance(run.get("until"), float) and isinstance(blocks, int):
        each = int(shown) // blocks
        return f"{each} per block, each a fresh process; at most {blocks} block{'s' if blocks != 1 else ''} per method"
    spread = "" if blocks is None else f" in {blocks} block{'s' if blocks != 1 else ''}, each a fresh process"
    return f"{shown} per method{spread}"


def warmup(shown: str, run: Mapping[str, Value]) -> str:
    return f"{shown} request{'s' if run.get('warmup') != 1 else ''} per block"


def dtype(shown: str, run: Mapping[str, Value]) -> str:
    own = run.get("server_model")  # what the model is named after, where that is a server's
    return "not known: the server's own" if own is not None and run.get("model") == f"server:{own}" else shown


def model(shown: str, run: Mapping[str, Value]) -> str:
    return shown + (" (its code is trusted)" if run.get("trust_remote_code") is True else "")


def device(shown: str, run: Mapping[str, Value]) -> str:
    index = shown if shown == "cpu" else f"GPU {shown}"
    name = str(run.get("device_name") or "").strip()
    return f"{name} ({index})" if name and name != shown else index
