"""`--on` and `--host`: which hosts are meant, for one that is to measure and for one that has moved."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import msgspec

from methods.base.home import config_folder
from sessions.disk.host_file import OnHost, host_of
from sessions.disk.session_folder import SessionFolder
from sessions.hosts.hosts import HostError, cluster_address, named_hosts
from tui.command_line import UsageError
from tui.settings import load_settings


def refuse_host_alone(options: argparse.Namespace) -> None:
    """Raise UsageError for `--host` without `--on`."""
    if options.host and options.on is None:
        raise UsageError("--host goes with --on: say which Ray cluster the hosts are in, as in --on ray://HEAD:10001.")


def refuse_moved(folder: SessionFolder, options: argparse.Namespace) -> None:
    """Raise UsageError where it makes no sense to say where the host of this session is now."""
    refuse_host_alone(options)
    if options.on is None:
        return
    host = host_of(folder.path)
    if host is None:
        raise UsageError(f"{folder.id} is measured here: --on is for those of other hosts.")
    if folder.is_live():
        raise UsageError(
            f"{folder.id} is still followed at {host.on}, {host.resource}: `kasoku stop {folder.id}` ends that."
        )


def named(options: argparse.Namespace) -> tuple[str, Mapping[str, str]]:
    """The cluster's address, and the hosts' resources by name. Raises HostError."""
    settings, _ = load_settings(config_folder())
    return cluster_address(options.on), named_hosts(options.host, settings.hosts)


def as_it_is_now(host: OnHost, options: argparse.Namespace) -> OnHost:
    """The host of a session, where `--on` and `--host` say that it is now. Raises HostError, UsageError."""
    if options.on is None:
        return host
    if not options.host:
        return msgspec.structs.replace(host, on=cluster_address(options.on))
    on, hosts = named(options)
    if len(hosts) > 1:
        raise HostError(f"A session has one host: name the one that has this, instead of {' and '.join(hosts)}.")
    ((name, resource),) = hosts.items()
    return msgspec.structs.replace(host, on=on, host=name, resource=resource)
