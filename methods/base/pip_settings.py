"""pip's settings for where packages come from, passed on to uv, which does not read pip's configuration.

Only ever passed on in the environment of a uv process: an index's address can hold a password, so it is never stored
or shown.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from methods.base.bounded_read import read_regular
from methods.base.user_path import user_folder

UNSET = ""
LARGEST_PIP_CONF = 1_000_000  # bytes


def pip_settings(environ: Mapping[str, str], prefix: str = sys.prefix) -> dict[str, str]:
    """pip's settings by their long names (`find-links`, `index-url`…): its files, then its `PIP_…` variables."""
    settings: dict[str, str] = {}
    for path in config_files(environ, prefix):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(read_regular(path, LARGEST_PIP_CONF).decode())
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue  # pip itself says what is wrong with its file
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update({name.replace("_", "-"): value for name, value in parser.items(section)})
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def config_files(environ: Mapping[str, str], prefix: str) -> list[Path]:
    """The files that pip reads, lowest precedence first."""
    named = environ.get("PIP_CONFIG_FILE", UNSET)
    if named == os.devnull:
        return []
    system = [
        Path(folder, "pip", "pip.conf") for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if folder
    ]
    user = []
    if own := environ.get("HOME") or user_folder():
        user = [
            Path(own, ".pip", "pip.conf"),
            Path(environ.get("XDG_CONFIG_HOME") or Path(own, ".config"), "pip", "pip.conf"),
        ]
    files = [*system, Path("/etc/pip.conf"), *user, Path(prefix, "pip.conf")]
    return [*files, Path(named)] if named else files


def find_links(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Folders (or pages) with wheels, as passed to uv."""
    own = environ.get("UV_FIND_LINKS")
    if own:
        return tuple(part for part in own.split(",") if part)
    return tuple(pip_settings(environ).get("find-links", "").split())


def for_uv(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that make uv look where pip looks. uv's own settings take precedence."""
    settings = pip_settings(environ)
    indexes = settings.get("extra-index-url", "").split()
    told = {
        "UV_FIND_LINKS": ",".join(find_links(environ)),
        "UV_INDEX_URL": settings.get("index-url", ""),
        "UV_EXTRA_INDEX_URL": " ".join(indexes),
        # pip takes the best version of all indexes; uv alone would stop at the first that knows the name
        "UV_INDEX_STRATEGY": "unsafe-best-match" if indexes else "",
        "UV_INSECURE_HOST": " ".join(settings.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": settings.get("timeout", settings.get("default-timeout", "")),
        "SSL_CERT_FILE": settings.get("cert", ""),
        "HTTPS_PROXY": settings.get("proxy", ""),
        "HTTP_PROXY": settings.get("proxy", ""),
    }
    if environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX"):
        told["UV_INDEX_URL"] = told["UV_EXTRA_INDEX_URL"] = told["UV_INDEX_STRATEGY"] = ""
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        told["UV_NO_INDEX"] = "1"
    return {name: value for name, value in told.items() if value and not environ.get(name)}
