"""What a store says where it cannot be used: one sentence each, and no session lost or half there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import botocore.session
import pytest

from sessions.published.location import opened
from sessions.published.objects import StoreError
from tests.published.conftest import FIRST, SECOND, listed_in, make_bucket
from tests.published.s3_server import serving
from tests.sessions.workplace import Said

Kasoku = Callable[..., Said]
SECRET = "a-password-of-mine"
READ = """{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "*"}]}"""
ALL = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}"""


def refused(said: Said, *parts: str, code: int = 2) -> None:
    sentences = [line for line in said.err.splitlines() if not line.startswith("publish: ")]  # but for the progress
    assert (said.code, said.out, len(sentences)) == (code, "", 1), said
    assert sentences[0].startswith("kasoku: ")
    assert len(sentences[0]) < 700
    assert all(part in said.err for part in parts), said.err


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (f"s3://me:{SECRET}@team/kasoku", "has a user, a password or a query in it"),
        (f"s3://{SECRET}@team", "has a user, a password or a query in it"),
        (f"s3://team/kasoku?secret={SECRET}", "has a user, a password or a query in it"),
        (f"s3://team/kasoku#{SECRET}", "has a user, a password or a query in it"),
        ("s3://team/../other", "cannot be a store's place in its bucket"),
        ("s3://team/a b", "cannot be a store's place in its bucket"),
        (f"s3://team/{'x' * 400}", "cannot be a store's place in its bucket"),
        ("s3://T", "'T' is not a bucket's name"),
        ("s3:///kasoku", "'' is not a bucket's name"),
        ("s3://[team/x", "should read s3://BUCKET/PREFIX"),
        (f"https://me:{SECRET}@team/kasoku", "Stores at https:// are not known: name a folder or s3://BUCKET/PREFIX"),
        ("gs://team", "Stores at gs:// are not known"),
        (" ", "A store is named by a folder or by s3://BUCKET/PREFIX"),
        ("~/\udcff", "is not UTF-8"),
    ],
)
def test_a_name_that_is_none_is_refused_and_no_password_repeated(
    mine: Path, kasoku: Kasoku, named: str, sentence: str
) -> None:
    for arguments in (["sessions"], ["publish", FIRST], ["show", SECOND]):
        said = kasoku(mine, *arguments, "--store", named)
        refused(said, sentence)
        assert SECRET not in said.err
    with pytest.raises(StoreError):
        opened(named)


@pytest.mark.parametrize("named", ["s3://team/kasoku/", "s3://team", "S3://team/a/b.c", "folder", "~/x"])
def test_a_name_that_is_one_is_taken(named: str) -> None:
    assert SECRET not in opened(named).url


@dataclass
class Fault:
    """A store that cannot be used: its name, what listing says, what publishing says."""

    store: str
    listing: str
    publishing: str


def a_folder_that_is_not_there(tmp_path: Path) -> Fault:
    sentence = f"The store's folder {tmp_path / 'nowhere'} is not there: mount its share, or create it"
    return Fault(str(tmp_path / "nowhere"), sentence, sentence)


def a_file(tmp_path: Path) -> Fault:
    (tmp_path / "file").write_text("")
    sentence = f"The store's folder {tmp_path / 'file'} is not there"
    return Fault(str(tmp_path / "file"), sentence, sentence)


@pytest.mark.parametrize("make", [a_folder_that_is_not_there, a_file])
def test_a_folder_that_cannot_be_used_is_said_in_a_sentence(
    mine: Path, tmp_path: Path, kasoku: Kasoku, make: Callable[[Path], Fault]
) -> None:
    fault = make(tmp_path)
    assert_said(mine, kasoku, fault)
    assert not (tmp_path / "nowhere").exists()


def assert_said(home: Path, kasoku: Kasoku, fault: Fault) -> None:
    listed = kasoku(home, "sessions", "--json", "--store", fault.store)
    assert listed.code == 1
    assert listed_in(listed) == {SECOND: "", FIRST: ""}, "one's own are there"
    refused(Said(1, "", listed.err), fault.listing, code=1)
    refused(kasoku(home, "publish", FIRST, "--store", fault.store), fault.publishing, code=1)
    refused(kasoku(home, "compare", "20250101-000000-000000", "--store", fault.store), fault.listing)


@pytest.mark.skipif(os.getuid() == 0, reason="root may do everything")
def test_a_folder_without_rights_is_said_in_a_sentence(mine: Path, shared: str, kasoku: Kasoku) -> None:
    Path(shared).chmod(stat.S_IRUSR | stat.S_IXUSR)
    said = kasoku(mine, "publish", FIRST, "--store", shared)
    refused(said, f"You cannot write to it in the store {shared}: permission denied", code=1)


def test_a_bucket_that_is_not_there_is_said_in_a_sentence(
    mine: Path, server: str, aws: Callable[[str], None], kasoku: Kasoku
) -> None:
    aws(server)
    sentence = "There is no bucket nobody: create it, or correct the store's URL"
    assert_said(mine, kasoku, Fault("s3://nobody", sentence, sentence))


def test_an_endpoint_that_is_down_is_said_in_a_sentence(mine: Path, aws: Callable[[str], None], kasoku: Kasoku) -> None:
    aws("http://127.0.0.1:1")
    sentence = "s3://team cannot be reached at http://127.0.0.1:1: check the network, and AWS_ENDPOINT_URL"
    assert_said(mine, kasoku, Fault("s3://team", sentence, sentence))


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("AWS_ACCESS_KEY_ID", "", "There are no credentials for s3://team: log in as AWS' own tools do"),
        ("AWS_PROFILE", "nobody", "AWS' settings cannot be read (The config profile (nobody) could not be found)"),
        ("AWS_ENDPOINT_URL", f"http://me:{SECRET}@127.0.0.1:1", "AWS_ENDPOINT_URL has a user or a password in it"),
    ],
)
def test_settings_that_lead_nowhere_are_said_in_a_sentence(
    mine: Path,
    aws: Callable[[str], None],
    kasoku: Kasoku,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    sentence: str,
) -> None:
    aws("http://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    said = kasoku(mine, "publish", FIRST, "--store", "s3://team")
    refused(said, sentence, code=said.code)
    assert said.code in (1, 2)
    assert SECRET not in said.err


def test_without_the_packages_of_a_bucket_the_command_to_get_them_is_said(
    mine: Path, aws: Callable[[str], None], kasoku: Kasoku, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws("http://127.0.0.1:1")
    monkeypatch.setattr("sessions.published.bucket.importlib.util.find_spec", lambda name: None)
    said = kasoku(mine, "publish", FIRST, "--store", "s3://team")
    refused(said, "s3://team takes botocore and obstore as well: pip install 'kasoku[store]'", code=said.code)


def test_plain_http_to_another_machine_is_said(
    mine: Path, server: str, aws: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws(server)
    assert opened("s3://team").remark == ""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.example:9000")
    assert opened("s3://team").remark == (
        "s3://team is reached by plain http: on the way to minio.example everything can be read."
    )


@dataclass
class Guarded:
    """A server that checks keys and policies, with a bucket `team`, and the keys of who may write and who may read."""

    url: str
    writer: dict[str, str]
    reader: dict[str, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with serving(tmp_path_factory.mktemp("s3") / "moto.log", INITIAL_NO_AUTH_ACTION_COUNT="7") as url:
        make_bucket(url, "team")
        session = botocore.session.Session()
        session.set_credentials("nobody", "nothing")
        iam = session.create_client("iam", region_name="us-east-1", endpoint_url=url)

        def keys(name: str, policy: str) -> dict[str, str]:
            iam.create_user(UserName=name)
            iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=policy)
            key = iam.create_access_key(UserName=name)["AccessKey"]
            return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

        yield Guarded(url, keys("writer", ALL), keys("reader", READ))


def test_rights_that_are_denied_are_said_and_no_key_is_in_any_output_or_file(
    mine: Path,
    theirs: Path,
    tmp_path: Path,
    guarded: Guarded,
    aws: Callable[[str], None],
    kasoku: Kasoku,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def as_one_with(keys: dict[str, str]) -> None:
        for name, value in keys.items():
            monkeypatch.setenv(name, value)

    aws(guarded.url)
    store = "s3://team/kasoku"
    told = [kasoku(mine, "publish", FIRST, "--store", store)]
    refused(
        told[0], f"{store} does not take your credentials (InvalidAccessKeyId): log in as AWS' own tools do", code=1
    )
    as_one_with({**guarded.writer, "AWS_SECRET_ACCESS_KEY": "wrong-" + guarded.writer["AWS_SECRET_ACCESS_KEY"]})
    told.append(kasoku(mine, "sessions", "--store", store))
    assert (told[1].code, told[1].err.count("\n")) == (1, 1)
    assert f"{store} does not take your credentials (SignatureDoesNotMatch)" in told[1].err
    as_one_with(guarded.writer)
    told.append(kasoku(mine, "publish", FIRST, "--store", store))
    assert told[2].code == 0, told[2]
    as_one_with(guarded.reader)
    told.append(kasoku(theirs, "sessions", "--json", "--store", store))
    assert listed_in(told[3]) == {FIRST: store}
    told.append(kasoku(mine, "publish", SECOND, "--store", store))
    refused(told[4], f"You may not write to it: {store} says AccessDenied; ask its owner for that right", code=1)
    assert listed_in(kasoku(theirs, "sessions", "--json", "--store", store)) == {FIRST: store}
    assert kasoku(theirs, "show", FIRST, "--store", store).code == 0

    secrets = [keys[name] for keys in (guarded.writer, guarded.reader) for name in keys]
    kept = b"".join(path.read_bytes() for home in (mine, theirs) for path in home.rglob("*") if path.is_file())
    assert not [secret for secret in secrets if secret in repr(told) or secret.encode() in kept]
