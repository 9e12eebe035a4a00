"""One measurement at a time per device: two on one GPU, or on one CPU, would disturb each other."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from methods.base import file_lock
from methods.base.home import private_folder
from sessions.disk.session_folder import SessionError


class DeviceLock:
    """Locks on devices ("cpu", or GPU UUIDs), held until `release` or the end of the process."""

    def __init__(self, devices: list[str], holder: str) -> None:
        self._devices = sorted(devices)
        self._holder = holder
        self._held: list[int] = []

    def try_take(self, cache: Path) -> str | None:
        """None once every device is held; otherwise the holder of the first one taken (nothing is held then).

        Raises SessionError where the files of the locks, in `devices/` of the cache, cannot be opened, and HomeError
        where they cannot be locked.
        """
        folder = private_folder(cache / "devices", within=cache)
        for device in self._devices:
            path = folder / device.replace("/", "_")
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise SessionError(
                    f"{path} cannot be opened ({error.strerror}): free some space, and resume."
                ) from None
            self._held.append(descriptor)
            try:
                free = file_lock.try_take(descriptor, path)
            except file_lock.NoLocksError:
                self.release()
                raise
            if not free:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                self.release()
                return holder or "another process"
        for descriptor in self._held:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, self._holder.encode(), 0)
        return None

    def release(self) -> None:
        """Release the devices."""
        while self._held:
            os.close(self._held.pop())
