"""A store in a folder that others can write to as well: no link in it is followed, in reading or in writing."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from methods.base.home import fsync_folder
from methods.base.user_path import reason
from sessions.published.objects import NoObjectError, StoreError, other_size

CHUNK: Final = 4 << 20
NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR)
AS_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
AS_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class SharedFolder:
    """Objects as files below `root`, which must be there: a share that is not mounted is not created."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        return str(self.root)

    @property
    def remark(self) -> str:
        return ""

    def below(self, prefix: str) -> list[str]:
        try:
            descriptor = self._descend(prefix.split("/"))
        except (FileNotFoundError, NotADirectoryError) as error:
            if not os.path.isdir(self.root):
                raise self._error(error, "list what is in it") from None
            return []
        except OSError as error:
            raise self._error(error, "list what is in it") from None
        try:
            # what is no folder has nothing below it, which shows when that is read
            return os.listdir(descriptor)  # noqa: PTH208 - a descriptor, below which no link was followed
        except OSError as error:
            raise self._error(error, "list what is in it") from None
        finally:
            os.close(descriptor)

    def read(self, name: str, most: int) -> bytes:
        with self._opened(name) as descriptor:
            content = b"".join(self._parts(descriptor, most + 1))
        if len(content) > most:
            raise StoreError(f"{name} in {self.url} is larger than {most / 1e6:g} MB, which no Kasoku writes.")
        return content

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        with self._opened(name) as descriptor:
            if os.fstat(descriptor).st_size != size:
                raise other_size(name, self.url)
            yield from self._parts(descriptor, size)

    def write(self, name: str, content: bytes | Path) -> None:
        *parents, last = name.split("/")
        temporary = f".{secrets.token_hex(8)}.tmp"
        try:
            descriptor = self._descend(parents, make=True)
            try:
                try:
                    self._fill(descriptor, temporary, content)
                    os.rename(temporary, last, src_dir_fd=descriptor, dst_dir_fd=descriptor)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(temporary, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            fsync_folder(self.root.joinpath(*parents))
        except OSError as error:
            raise self._error(error, "write to it") from None

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            *parents, last = name.split("/")
            try:
                descriptor = self._descend(parents)
                try:
                    os.unlink(last, dir_fd=descriptor)
                finally:
                    os.close(descriptor)
            except OSError as error:
                if error.errno not in NOT_THERE:
                    raise self._error(error, "remove what is replaced") from None
            while parents:
                with contextlib.suppress(OSError):  # it has more in it
                    self.root.joinpath(*parents).rmdir()
                parents.pop()

    def _descend(self, parts: Sequence[str], *, make: bool = False) -> int:
        """A descriptor of the folder below the root that these lead to, no link among them. Raises OSError."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts:
            made = False
            try:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=descriptor)
                        made = True
                below = os.open(part, AS_FOLDER, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
            if made:
                self._share(descriptor, 0o7777)
        return descriptor

    def _share(self, descriptor: int, mask: int) -> None:
        """Give what was made the permissions of the root, whatever the umask: others are to read it."""
        with contextlib.suppress(OSError):  # a share may have no permissions of its own
            os.fchmod(descriptor, stat.S_IMODE(self.root.stat().st_mode) & mask)

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        *parents, last = name.split("/")
        try:
            folder = self._descend(parents)
            try:
                descriptor = os.open(last, AS_FILE, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            if error.errno in NOT_THERE and os.path.isdir(self.root):
                raise NoObjectError(f"{name} is not in {self.url}.") from None
            raise self._error(error, "read it") from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StoreError(f"{name} in {self.url} is not a file, so it did not come from Kasoku.")
            yield descriptor
        except OSError as error:
            raise self._error(error, "read it") from None
        finally:
            os.close(descriptor)

    @staticmethod
    def _parts(descriptor: int, most: int) -> Iterator[bytes]:
        while most > 0 and (chunk := os.read(descriptor, min(CHUNK, most))):
            most -= len(chunk)
            yield chunk

    def _fill(self, folder: int, name: str, content: bytes | Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(name, "wb", opener=lambda path, _: os.open(path, flags, 0o666, dir_fd=folder)) as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                with content.open("rb") as source:
                    while chunk := source.read(CHUNK):
                        file.write(chunk)
            file.flush()
            self._share(file.fileno(), 0o666)
            os.fsync(file.fileno())

    def _error(self, error: OSError, doing: str) -> StoreError:
        if not os.path.isdir(self.root):
            return StoreError(f"The store's folder {self.root} is not there: mount its share, or create it.")
        if error.errno == errno.ELOOP:
            return StoreError(f"There is a link in {self.root}, which no Kasoku makes: it is not followed; remove it.")
        return StoreError(f"You cannot {doing} in the store {self.root}: {reason(error)}.")
