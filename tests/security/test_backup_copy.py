"""The copy of a backup in S3: it cannot be read without the key, and it is restored completely."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from local.services import Services
from tests.security.conftest import PROGRAMS

FILES = {
    "audio_pipeline.dump": b"PGDMP a name",
    "counts.txt": b"batches|1\n",
    "redis.rdb": b"REDIS",
    "SHA256SUMS": b"x",
}


@dataclass(frozen=True)
class Copies:
    services: Services
    bucket: str
    folder: Path
    recipient: str

    @property
    def s3(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.services.s3_endpoint,
            aws_access_key_id=self.services.s3_access_key,
            aws_secret_access_key=self.services.s3_secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def keys(self) -> list[str]:
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def make_backup(self, name: str, *, without: str = "") -> None:
        backup = self.folder / "backups" / name
        backup.mkdir(parents=True)
        for file, content in FILES.items():
            if file != without:
                (backup / file).write_bytes(content)
        latest = self.folder / "backups/latest"
        latest.unlink(missing_ok=True)
        latest.symlink_to(name)

    def run(self, *words: str | Path, key: str = "") -> subprocess.CompletedProcess[bytes]:
        credentials = self.folder / "credentials"
        credentials.mkdir(exist_ok=True)
        (credentials / "s3_access_key").write_text(self.services.s3_access_key)
        (credentials / "s3_secret_key").write_text(key or self.services.s3_secret_key)
        env = {
            "PATH": os.environ["PATH"],
            "CREDENTIALS_DIRECTORY": str(credentials),
            "STATE_DIRECTORY": str(self.folder),
            "BACKUP_S3_ENDPOINT": self.services.s3_endpoint,
            "BACKUP_S3_REGION": "us-east-1",
            "BACKUP_S3_BUCKET": self.bucket,
            "BACKUP_S3_PREFIX": "backups",
            "BACKUP_KEEP_DAYS": "90",
            "BACKUP_RECIPIENT": self.recipient,
        }
        command = [sys.executable, str(PROGRAMS / "backup_copy.py"), *(str(word) for word in words)]
        return subprocess.run(command, env=env, capture_output=True, check=False)

    def send(self) -> subprocess.CompletedProcess[bytes]:
        return self.run("send", self.folder / "backups")

    def open(self, encrypted: bytes) -> dict[str, bytes]:
        command = ["age", "--decrypt", "--identity", str(self.folder / "key.txt")]
        opened = subprocess.run(command, input=encrypted, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(opened)) as tar:
            return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


@pytest.fixture
def copies(services: Services, bucket: str, tmp_path: Path) -> Copies:
    key = tmp_path / "key.txt"
    subprocess.run(["age-keygen", "-o", key], capture_output=True, check=True)
    recipient = subprocess.run(["age-keygen", "-y", key], capture_output=True, text=True, check=True).stdout.strip()
    return Copies(services, bucket, tmp_path, recipient)


def day(back: int) -> str:
    return f"{datetime.now(UTC) - timedelta(days=back):%Y%m%dT%H%M%SZ}"


def test_a_copy_is_unreadable_without_the_key_and_whole_with_it(copies: Copies) -> None:
    copies.make_backup(name := day(0))
    done = copies.send()
    assert done.returncode == 0, done.stderr
    fetched = copies.run("fetch", f"s3://{copies.bucket}/backups/{name}.tar.age")
    assert fetched.stdout.startswith(b"age-encryption.org/v1")
    assert not any(content in fetched.stdout for content in (b"PGDMP a name", b"batches|1", b"REDIS"))
    assert copies.open(fetched.stdout) == FILES
    assert (copies.folder / "latest").read_text() == f"backups/{name}.tar.age\n"


@pytest.mark.thorough
def test_sending_the_same_backup_again_changes_nothing(copies: Copies) -> None:
    copies.make_backup(name := day(0))
    copies.send()
    before = copies.s3.head_object(Bucket=copies.bucket, Key=f"backups/{name}.tar.age")["ETag"]
    assert copies.send().returncode == 0
    assert copies.s3.head_object(Bucket=copies.bucket, Key=f"backups/{name}.tar.age")["ETag"] == before


def test_old_copies_go_and_what_is_no_copy_stays(copies: Copies) -> None:
    old, kept, other = f"backups/{day(91)}.tar.age", f"backups/{day(89)}.tar.age", "backups/notes.txt"
    for key in (old, kept, other):
        copies.s3.put_object(Bucket=copies.bucket, Key=key, Body=b"x")
    copies.make_backup(name := day(0))
    done = copies.send()
    assert b"removed 1 older copies" in done.stdout
    assert set(copies.keys()) == {kept, other, f"backups/{name}.tar.age"}


def test_the_newest_copy_stays_however_old_it_is(copies: Copies) -> None:
    copies.make_backup(name := day(200))
    assert copies.send().returncode == 0
    assert copies.keys() == [f"backups/{name}.tar.age"]


@pytest.mark.thorough
def test_a_folder_as_name_stands_for_the_newest_copy_in_it(copies: Copies) -> None:
    for back in (2, 1):
        copies.make_backup(name := day(back))
        copies.send()
    url = f"s3://{copies.bucket}/backups/"
    assert copies.run("name", url).stdout.decode().strip() == f"{url}{name}.tar.age"


def test_a_backup_that_cannot_be_read_leaves_no_copy(copies: Copies) -> None:
    copies.make_backup(day(0), without="redis.rdb")
    done = copies.send()
    assert done.returncode == 1
    assert b"could not be encrypted" in done.stderr
    assert copies.keys() == []


def test_refused_keys_are_one_sentence_without_the_secret(copies: Copies) -> None:
    copies.make_backup(day(0))
    done = copies.run("send", copies.folder / "backups", key="not-the-secret-key")
    assert done.returncode == 1
    assert done.stderr.startswith(b"backup-copy: ")
    assert b"not-the-secret-key" not in done.stdout + done.stderr
