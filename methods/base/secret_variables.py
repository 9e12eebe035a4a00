"""Environment variables that hold secrets: processes that run other people's code, such as engines, get none."""

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
    """Whether a variable's name suggests a secret, or its value looks like one."""
    return NAMED.search(name) is not None or LIKE_SECRETS.search(value) is not None


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that hold no secret."""
    return {name: value for name, value in environ.items() if not is_secret(name, value)}
