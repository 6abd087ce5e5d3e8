#!/usr/bin/python3
"""Copies backups to S3, encrypted.

    backup-copy send FOLDER            encrypt the newest backup of the folder for BACKUP_RECIPIENT, upload it, and
                                       remove copies that are too old
    backup-copy fetch s3://BUCKET/KEY  write one copy, still encrypted, to standard output
    backup-copy name s3://BUCKET/KEY   print the name of the copy; if KEY ends in /, the newest copy below it

A copy is {BACKUP_S3_PREFIX}/20261128T033000Z.tar.age: a tar of the backup's files, encrypted with age for one public
key. This host does not have the key to decrypt it. The S3 keys are the files s3_access_key and s3_secret_key in
$CREDENTIALS_DIRECTORY.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

FILES = ("audio_pipeline.dump", "counts.txt", "redis.rdb", "SHA256SUMS")
NAME = re.compile(r"(\d{8}T\d{6}Z)\.tar\.age$")
PARTS = TransferConfig(multipart_chunksize=64 * 1024**2, max_concurrency=2)  # 640 GB in S3's 10,000 parts


class Encrypted:
    """A readable stream: the tar of a backup, encrypted with age. The last read raises an error if a program failed."""

    def __init__(self, backup: Path, recipient: str) -> None:
        tar = ["tar", "--create", f"--directory={backup}", *FILES]
        self._tar = subprocess.Popen(tar, stdout=subprocess.PIPE)
        self._age = subprocess.Popen(["age", "--recipient", recipient], stdin=self._tar.stdout, stdout=subprocess.PIPE)
        assert self._tar.stdout is not None  # noqa: S101 - tells the type checker
        self._tar.stdout.close()

    def read(self, size: int = -1) -> bytes:
        assert self._age.stdout is not None  # noqa: S101 - tells the type checker
        data = self._age.stdout.read(size)
        if not data and size != 0 and (self._age.wait() or self._tar.wait()):
            raise RuntimeError("the backup could not be encrypted; see the messages of tar and age above")
        return data


def client() -> Any:
    folder = Path(os.environ["CREDENTIALS_DIRECTORY"])
    return boto3.client(
        "s3",
        endpoint_url=os.environ["BACKUP_S3_ENDPOINT"],
        region_name=os.environ["BACKUP_S3_REGION"],
        aws_access_key_id=(folder / "s3_access_key").read_text().strip(),
        aws_secret_access_key=(folder / "s3_secret_key").read_text().strip(),
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 5}),
    )


def copies(s3: Any, bucket: str, prefix: str) -> list[str]:
    """Return the S3 keys of the copies, oldest first."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return sorted(key for key in keys if NAME.fullmatch(key.removeprefix(prefix)))


def send(folder: Path) -> None:
    s3, bucket = client(), os.environ["BACKUP_S3_BUCKET"]
    prefix = os.environ["BACKUP_S3_PREFIX"].strip("/") + "/"
    backup = (folder / "latest").resolve(strict=True)
    key = f"{prefix}{backup.name}.tar.age"
    if key not in copies(s3, bucket, prefix):
        s3.upload_fileobj(Encrypted(backup, os.environ["BACKUP_RECIPIENT"]), bucket, key, Config=PARTS)
    size = s3.head_object(Bucket=bucket, Key=key)["ContentLength"]
    if "STATE_DIRECTORY" in os.environ:  # the health check reads the age of this file
        (Path(os.environ["STATE_DIRECTORY"]) / "latest").write_text(f"{key}\n")
    oldest = datetime.now(UTC) - timedelta(days=int(os.environ["BACKUP_KEEP_DAYS"]))
    gone = [old for old in copies(s3, bucket, prefix) if old < f"{prefix}{oldest:%Y%m%dT%H%M%SZ}" and old != key]
    for old in gone:
        s3.delete_object(Bucket=bucket, Key=old)
    print(f"copied {backup} to s3://{bucket}/{key}, {size} bytes; removed {len(gone)} older copies")


def found(s3: Any, url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not key:
        raise RuntimeError(f"{url} is not a copy; use s3://BUCKET/KEY, or s3://BUCKET/PREFIX/ for the newest")
    if key.endswith("/"):
        there = copies(s3, bucket, key)
        if not there:
            raise RuntimeError(f"there is no copy below {url}")
        key = there[-1]
    if NAME.search(key) is None:
        raise RuntimeError(
            f"s3://{bucket}/{key} is not a copy of a backup: its name must end like 20261128T033000Z.tar.age"
        )
    return bucket, key


def main(words: list[str]) -> int:
    try:
        match words:
            case ["send", folder]:
                send(Path(folder))
            case ["fetch", url]:
                s3 = client()
                bucket, key = found(s3, url)
                s3.download_fileobj(bucket, key, sys.stdout.buffer)
            case ["name", url]:
                print("s3://{}/{}".format(*found(client(), url)))
            case _:
                print(__doc__, file=sys.stderr)
                return 64
    except (RuntimeError, OSError, BotoCoreError, Boto3Error, ClientError) as error:
        print(f"backup-copy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
