"""Environment variables that hold secrets: a process that runs other people's code, an engine's say, gets none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

NAMED: Final = re.compile(
    r"TOKEN(?!I[SZ])|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_?KEY|(ACCESS|PRIVATE|ACCOUNT)_KEY|CONNECTION_STRING",
    re.IGNORECASE,  # TOKENIZERS_PARALLELISM is no secret
)
# user:password@ in an address, and the beginnings that some issuers give their keys
LIKE_SECRETS: Final = re.compile(r"://[^/\s:@]*:[^/\s@]+@|\b(?:hf_|sk-|ghp_|github_pat_|glpat-|xox[bp]-|AKIA)\w{8}")


def is_secret(name: str, value: str) -> bool:
    """Whether a variable is a secret by its name, or by the look of its value."""
    return NAMED.search(name) is not None or LIKE_SECRETS.search(value) is not None


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are none."""
    return {name: value for name, value in environ.items() if not is_secret(name, value)}
