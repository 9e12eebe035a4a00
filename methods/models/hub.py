"""The Hugging Face Hub and its cache: what a repository holds, and its local files.

HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE work as everywhere. Only the files that a model in safetensors needs
are fetched: no pickled weights, and code only where it is trusted.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from methods.base.progress import Progress, Report
from methods.models.quantisation import MODELOPT
from methods.models.safetensors_folder import (
    INDEX,
    SINGLE,
    WeightsError,
    another_kind,
    refusal,
    shard_names,
    weight_files,
)
from methods.models.sources import ModelError, OnHub
from methods.text.tokeniser import TEKKEN

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    MODELOPT,
    INDEX,
)
SLOW_TOKENISERS = (
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "added_tokens.json",
    TEKKEN,
)
CONVERTIBLE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model", "vocab.txt", "merges.txt")
CODE = ".py"
SECONDS = 15


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one commit: the size of each file in bytes, None if the Hub does not say.

    `cached` is the snapshot's folder when the Hub could not be asked and the cache has the model.
    """

    source: OnHub
    commit: str
    sizes: Mapping[str, int | None]
    gated: bool
    cached: Path | None = None


def look_up(source: OnHub) -> Listing:
    """What the Hub, or failing that its cache, knows about the repository. Raises ModelError."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it prints its retries on the screen
    if not Path(constants.HF_HUB_CACHE).is_absolute():  # a session would look for it in a folder of its own
        raise ModelError(
            f"The Hub's cache would be {constants.HF_HUB_CACHE}, below the current folder: set HF_HOME to the absolute"
            " path of a folder of yours."
        )
    name = source.repository
    try:
        info = HfApi().model_info(name, revision=source.revision, timeout=SECONDS, files_metadata=True)
    except HFValidationError as error:
        raise ModelError(f"{name!r} is not a Hub repository name; those look like org/name.") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{name} on the Hub has no revision {source.revision!r}.") from error
    except RepositoryNotFoundError as error:
        _no_access(name, error)
    except HfHubHTTPError as error:
        if error.response.status_code < 500 and error.response.status_code != 429:
            raise ModelError(f"The Hub refuses {name} (status {error.response.status_code}).") from error
        return _from_cache(source, f"answers with status {error.response.status_code}")
    except Exception as error:  # offline mode and whatever the network has
        return _from_cache(source, f"cannot be reached ({(str(error).splitlines() or [type(error).__name__])[0]})")
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    return Listing(source, info.sha or source.revision, sizes, bool(info.gated))


def weight_names(listing: Listing) -> list[str]:
    """The weight files to fetch. Raises ModelError if there are no safetensors."""
    if SINGLE in listing.sizes:
        return [SINGLE]
    if INDEX in listing.sizes:
        shards = [name for name in listing.sizes if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)]
        if shards:
            return sorted(shards)
    raise ModelError(refusal(f"{listing.source.repository} on the Hub", sorted(listing.sizes)))


def small_names(listing: Listing) -> list[str]:
    """The other files a model needs, as far as the repository has them."""
    wanted = SMALL_FILES if "tokenizer.json" in listing.sizes else SMALL_FILES + SLOW_TOKENISERS
    return [name for name in wanted if name in listing.sizes]


def code_names(listing: Listing) -> list[str]:
    """The Python files beside a model's config."""
    return sorted(name for name in listing.sizes if name.endswith(CODE) and "/" not in name)


def fetch_small(listing: Listing, report: Report, code: bool = False) -> Path:
    """The snapshot's folder with everything but the weights in it, and its code only if `code`. Raises ModelError."""
    if listing.cached is not None:
        return listing.cached
    where = f"{listing.source.repository} on the Hub"
    if "config.json" not in listing.sizes:
        raise ModelError(
            another_kind(where, sorted(listing.sizes)) or f"{where} has no config.json, so it is not a model."
        )
    names = small_names(listing) + (code_names(listing) if code else [])
    folders = [_fetch(listing, name, report).parent for name in names]
    return folders[0]


def fetch(listing: Listing, report: Report, code: bool = False) -> Path:
    """The snapshot's folder with the whole model in it, and its code only if `code`. Raises ModelError."""
    folder = fetch_small(listing, report, code)
    if listing.cached is not None:
        return folder
    names = weight_names(listing)
    if os.path.exists(folder / INDEX) and SINGLE not in names:
        try:
            names = shard_names(folder / INDEX)
        except WeightsError as error:
            raise ModelError(str(error)) from error
    for name in names:
        _fetch(listing, name, report)
    if listing.source.revision != listing.commit:
        # the cache then remembers which commit the branch was at, so that its name works without the Hub
        _fetch(listing, "config.json", report, listing.source.revision)
    return folder


def _fetch(listing: Listing, name: str, report: Report, revision: str | None = None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError

    class Bar(_Bar):
        """The progress bar class that huggingface_hub reports a download to."""

        told = staticmethod(report)
        file = name

    repository = listing.source.repository
    report(Progress("fetch", name, 0, listing.sizes.get(name), "bytes"))
    try:
        path = hf_hub_download(repository, name, revision=revision or listing.commit, tqdm_class=Bar)
    except GatedRepoError as error:
        _no_access(repository, error)
    except EntryNotFoundError as error:
        raise ModelError(f"{name} of {repository} cannot be fetched from the Hub; try again.") from error
    except OSError as error:
        reason = (error.strerror or str(error)).splitlines()[0]
        raise ModelError(f"{name} of {repository} cannot be fetched: {reason}.") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("huggingface_hub", "httpx", "httpx2", "hf_xet"):
            raise  # not the network: whoever watches the progress wants to stop
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{name} of {repository} cannot be fetched from the Hub: {reason}.") from error
    return Path(path)


class _Bar:
    """The part of a progress bar's interface that huggingface_hub uses."""

    told: Report
    file: str

    def __init__(self, *_: object, total: int | None = None, initial: int = 0, **__: object) -> None:
        self.total = total
        self.n = initial
        self.format_dict: dict[str, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def update(self, count: float | None = 1) -> None:
        self.n += int(count or 0)
        self.told(Progress("fetch", self.file, self.n, self.total, "bytes"))

    def refresh(self, *_: object, **__: object) -> None:
        self.update(0)

    def reset(self, total: int | None = None) -> None:
        self.n, self.total = 0, total

    def set_postfix_str(self, *_: object, **__: object) -> None:
        """Ignored: the library's speed display."""

    def set_description(self, *_: object, **__: object) -> None:
        """Ignored: the library's description."""

    def close(self) -> None:
        """Nothing is on the screen, so nothing to clear."""


def _no_access(name: str, error: Exception) -> NoReturn:
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import GatedRepoError

    login = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, GatedRepoError):
        where = f"{constants.ENDPOINT}/{name}"
        raise ModelError(f"{name} is gated: accept its terms at {where}, then {login}.") from error
    hint = "" if get_token() else f"; if it is private, {login}"
    raise ModelError(f"The Hub has no model {name}, or you may not see it{hint}.") from error


def _from_cache(source: OnHub, why: str) -> Listing:
    """The model from an earlier download. Raises ModelError if it is incomplete."""
    from huggingface_hub import snapshot_download

    name = source.repository
    try:
        folder = Path(snapshot_download(name, revision=source.revision, local_files_only=True))
        weight_files(folder)
    except Exception as error:
        raise ModelError(
            f"The Hub {why}, and {name} is not in its local cache; name a folder with the model, "
            "or try again when the Hub can be reached."
        ) from error
    sizes: dict[str, int | None] = {entry.name: None for entry in folder.iterdir()}
    return Listing(source, folder.name, sizes, False, folder)
