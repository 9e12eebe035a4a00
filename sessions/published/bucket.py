"""A store in an S3 bucket, by obstore; credentials come from the chain of AWS' own tools and from nowhere else."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sessions.published.objects import NoObjectError, StoreError, other_size

if TYPE_CHECKING:
    from botocore.session import Session
    from obstore.store import S3Config, S3Credential, S3Store

REGION: Final = "us-east-1"  # where none is set, as AWS' own tools do not need one for other endpoints
FRESH: Final = timedelta(minutes=10)  # for so long credentials are not asked for again
RETRIES: Final = 2
PATIENCE: Final = timedelta(seconds=10)
PART: Final = 8 << 20
LOG_IN: Final = "log in as AWS' own tools do (AWS_PROFILE, `aws sso login`, AWS_ACCESS_KEY_ID)"
CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,80})</Code>")
STATUS: Final = re.compile(r"status code: (\d{3}[ A-Za-z]{0,40})")
UNKNOWN_KEYS: Final = (
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
    "InvalidClientTokenId", "AuthFailure", "AuthorizationHeaderMalformed",
)  # fmt: skip
DENIED: Final = ("AccessDenied", "AllAccessDisabled", "AccountProblem", "UnauthorizedAccess")
ELSEWHERE: Final = ("PermanentRedirect", "IllegalLocationConstraintException")


class Bucket:
    """Objects below `prefix` in the bucket, at $AWS_ENDPOINT_URL or the profile's endpoint, else at AWS."""

    def __init__(self, name: str, prefix: str) -> None:
        self.name, self.prefix = name, prefix

    @property
    def url(self) -> str:
        return f"s3://{self.name}/{self.prefix}" if self.prefix else f"s3://{self.name}"

    def below(self, prefix: str) -> list[str]:
        import obstore

        client = self._client
        try:
            found = obstore.list_with_delimiter(client, prefix)["common_prefixes"]
        except self._raised as error:
            raise self._error(error, "list what is in it") from None
        return [name.rpartition("/")[2] for name in found]

    def read(self, name: str, most: int) -> bytes:
        content = b""
        for chunk in self._got(name, most):
            content += chunk
            if len(content) > most:
                raise other_size(name, self.url)
        return content

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        left = size
        for chunk in self._got(name, size):
            left -= len(chunk)
            if left < 0:
                raise other_size(name, self.url)
            yield chunk
        if left:
            raise other_size(name, self.url)

    def write(self, name: str, content: bytes | Path) -> None:
        import obstore

        client = self._client
        try:
            obstore.put(client, name, content, chunk_size=PART)
        except self._raised as error:
            raise self._error(error, "write to it") from None

    def remove(self, names: Sequence[str]) -> None:
        import obstore

        client = self._client
        try:
            obstore.delete(client, list(names))
        except self._raised as error:
            raise self._error(error, "remove what is replaced") from None

    @property
    def remark(self) -> str:
        where = urlsplit(self._session_and_endpoint[1] or "https:")
        if where.scheme != "http" or where.hostname in ("localhost", "127.0.0.1", "::1"):
            return ""
        return f"{self.url} is reached by plain http: on the way to {where.hostname} everything can be read."

    def _got(self, name: str, most: int) -> Iterator[bytes]:
        import obstore

        client = self._client
        try:
            found = obstore.get(client, name)
            if found.meta["size"] > most:
                raise other_size(name, self.url)
            for chunk in found.stream(min_chunk_size=PART):
                yield bytes(chunk)
        except self._raised as error:
            raise self._error(error, "read it", name) from None

    @cached_property
    def _session_and_endpoint(self) -> tuple[Session, str | None]:
        if lacking := [name for name in ("botocore", "obstore") if importlib.util.find_spec(name) is None]:
            raise StoreError(f"{self.url} takes {' and '.join(lacking)} as well: pip install 'kasoku[store]'.")
        import botocore.configprovider
        import botocore.session
        from botocore.exceptions import BotoCoreError

        try:
            session = botocore.session.Session()
            endpoint = botocore.configprovider.ConfiguredEndpointProvider(
                full_config=session.full_config, scoped_config=session.get_scoped_config(), client_name="s3"
            ).provide()
        except BotoCoreError as error:
            raise StoreError(f"AWS' settings cannot be read ({error}): {LOG_IN}.") from None
        if endpoint and "@" in urlsplit(endpoint).netloc:
            raise StoreError("AWS_ENDPOINT_URL has a user or a password in it, which would be seen: leave it out.")
        return session, endpoint

    @cached_property
    def _client(self) -> S3Store:
        from botocore.exceptions import BotoCoreError
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        session, endpoint = self._session_and_endpoint
        try:
            credentials = session.get_credentials()
            if credentials is None:
                raise StoreError(f"There are no credentials for {self.url}: {LOG_IN}.")
            credentials.get_frozen_credentials()  # here, where what is wrong with them can still be told

            def current() -> S3Credential:
                now = credentials.get_frozen_credentials()
                return {
                    "access_key_id": now.access_key,
                    "secret_access_key": now.secret_key,
                    "token": now.token,
                    "expires_at": datetime.now(UTC) + FRESH,
                }

            config: S3Config = {
                "region": session.get_config_variable("region") or REGION,
                "checksum_algorithm": "SHA256",
            }
            if endpoint:
                config["endpoint"] = endpoint
            return S3Store(
                self.name,
                prefix=self.prefix or None,
                config=config,
                client_options={
                    "allow_http": (endpoint or "").startswith("http://"),
                    "connect_timeout": timedelta(seconds=3),
                    "read_timeout": timedelta(seconds=30),
                    "timeout": timedelta(hours=1),
                },
                retry_config={"max_retries": RETRIES, "retry_timeout": PATIENCE},
                credential_provider=current,
            )
        except (BotoCoreError, BaseError, ValueError) as error:
            raise StoreError(f"{self.url} cannot be opened ({_first_line(error)}): {LOG_IN}.") from None

    @property
    def _raised(self) -> tuple[type[Exception], ...]:
        from obstore.exceptions import BaseError

        return (BaseError, OSError, ValueError)

    def _error(self, error: Exception, doing: str, name: str = "") -> StoreError:
        """The sentence: of what obstore says, which names hosts and keys but never a credential, only the gist."""
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        said = str(error)
        found = CODE.search(said)
        code = found[1] if found else ""
        if code == "NoSuchBucket":
            return StoreError(f"There is no bucket {self.name}: create it, or correct the store's URL.")
        if isinstance(error, FileNotFoundError):
            return NoObjectError(f"{name} is not in {self.url}.")
        if code in UNKNOWN_KEYS or isinstance(error, UnauthenticatedError):
            return StoreError(f"{self.url} does not take your credentials ({code or 'unauthenticated'}): {LOG_IN}.")
        if code in DENIED or isinstance(error, PermissionDeniedError):
            return StoreError(
                f"You may not {doing}: {self.url} says {code or 'access denied'}; ask its owner for that right, or use"
                " other credentials (AWS_PROFILE)."
            )
        if code in ELSEWHERE:
            return StoreError(f"The bucket {self.name} is in another region: set AWS_REGION to that.")
        where = self._session_and_endpoint[1] or "AWS"
        if "error sending request" in said or "HTTP error" in said:
            return StoreError(f"{self.url} cannot be reached at {where}: check the network, and AWS_ENDPOINT_URL.")
        status = STATUS.search(said)
        told = code or (status[1].strip() if status else _first_line(error))
        return StoreError(f"{self.url} answered {told} when asked to {doing}: try again, or ask who keeps it.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
