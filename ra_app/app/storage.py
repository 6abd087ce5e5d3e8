"""Reads clips from S3. Only this module turns botocore's exceptions into those of the app."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from app.config import Settings
from app.errors import ClipMissingError, RangeUnsatisfiableError, StorageUnavailableError
from app.ranges import is_empty_suffix

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHUNK = 64 * 1024  # bytes; 16 s of speech at 32 kbit/s
CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 15


@dataclass(frozen=True, kw_only=True)
class AudioObject:
    """An S3 object or a range of it. The caller must close it."""

    etag: str
    length: int  # bytes of the object or range
    content_range: str | None  # None: the whole object
    body: Any = None

    def chunks(self) -> Iterator[bytes]:
        try:
            yield from self.body.iter_chunks(CHUNK)
        except (BotoCoreError, HTTPError, OSError) as error:
            # The status was sent already. Closing the connection tells the client that bytes are missing.
            raise StorageUnavailableError(f"S3 closed the connection while it sent a clip: {error}") from error

    def close(self) -> None:
        if self.body is not None:
            self.body.close()


class AudioStore:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bucket = settings.s3_bucket

    @cached_property
    def _client(self) -> S3Client:
        """Made at first use, so the app starts while S3 is down. Threads may share a boto3 client."""
        options = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=32,
            # Old versions of Swift and Ceph refuse the checksums that new clients send by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=self._settings.s3_endpoint,
            aws_access_key_id=self._settings.s3_access_key,
            aws_secret_access_key=self._settings.s3_secret_key,
            region_name=self._settings.s3_region,
            config=options,
        )
        return client

    def head(self, key: str) -> AudioObject:
        found = self._ask("head_object", key)
        return AudioObject(etag=found["ETag"], length=found["ContentLength"], content_range=None)

    def check_bucket(self) -> str:
        """Ask for the bucket -> a remark, or "". Keys that may read objects need no right to list them."""
        try:
            self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "AccessDenied":
                return (
                    "there is no clip yet, and the keys may not list the bucket, so whether they may read was not tried"
                )
            raise StorageUnavailableError(f"S3 refuses access to bucket {self._bucket}: {error}") from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise StorageUnavailableError(f"S3 at {self._settings.s3_endpoint} cannot be reached: {error}") from error
        return ""

    def open(self, key: str, asked: str | None = None, if_range: str | None = None) -> AudioObject:
        """Open an object, or the part that `asked` names if the object's tag is still `if_range`."""
        if asked is None:
            return self._open(key)
        if is_empty_suffix(asked):
            raise RangeUnsatisfiableError(self.head(key).length)
        try:
            return self._open(key, Range=asked, **({"IfMatch": if_range} if if_range else {}))
        except _ChangedError:
            return self._open(key)
        except _RangeRefusedError:
            raise RangeUnsatisfiableError(self.head(key).length) from None

    def _open(self, key: str, **options: str) -> AudioObject:
        found = self._ask("get_object", key, **options)
        return AudioObject(
            etag=found["ETag"],
            length=found["ContentLength"],
            content_range=found.get("ContentRange"),
            body=found["Body"],
        )

    def _ask(self, operation: str, key: str, **options: str) -> Any:
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, Key=key, **options)
        except ClientError as error:
            raise _app_error(error, self._bucket, key) from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise StorageUnavailableError(f"S3 at {self._settings.s3_endpoint} cannot be reached: {error}") from error


class _ChangedError(Exception):
    """The object is not the version that If-Range names."""


class _RangeRefusedError(Exception):
    """The range lies outside the object."""


def _app_error(error: ClientError, bucket: str, key: str) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in {"NoSuchKey", "404"}:
        return ClipMissingError(f"Bucket {bucket} in S3 has no object {key}")
    if code in {"InvalidRange", "416"}:
        return _RangeRefusedError()
    if code in {"PreconditionFailed", "412"}:
        return _ChangedError()
    return StorageUnavailableError(f"S3 refuses to send object {key} of bucket {bucket}: {error}")
