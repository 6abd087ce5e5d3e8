"""S3: archives in, Opus files out.

When a request for one key fails, `ObjectStore` first checks the bucket. Only if the bucket answers does the failure
belong to that key, and so to one job.

The workers use `ObjectStore`. The functions at the end of this file are for the shell, as in the group's guide
(`python -c "from s3_utils import get_s3_client; ..."`). They read their settings from the environment.
"""

from __future__ import annotations

import errno
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from config import Settings, load_settings
from errors import (
    MissingObjectError,
    OneArchiveError,
    OperatorError,
    PermanentError,
    PipelineError,
    RetryableError,
    ServiceUnavailableError,
)
from jobs.s3_keys import archive_key, processed_key
from scratch import directories

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

MULTIPART_THRESHOLD = 100 * 1024 * 1024  # bytes; a larger upload goes in parts, and a lost connection costs one part
PART_SIZE = 32 * 1024 * 1024
Progress = Callable[[int], None]

_REFUSED = {"403", "401", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"}
_MISSING = {"404", "NoSuchKey", "NotFound"}
_COLD = {"InvalidObjectState"}  # the object is in an archive tier (Glacier) and cannot be read from there
_BUSY = {"RequestTimeout", "SlowDown", "Throttling", "TooManyRequests"}  # some services send these with status 4xx
_CHANGING = {"409", "412", "OperationAborted", "ConditionalRequestConflict", "PreconditionFailed"}
_TOO_LARGE = {"413", "EntityTooLarge"}

Operation = Literal["read", "write", "bucket"]

_one_at_a_time = threading.Lock()  # several threads must not make clients of one session at the same time


class ObjectStore:
    def __init__(self, settings: Settings, on_progress: Callable[[], None] = lambda: None) -> None:
        """Call `on_progress` for every request and every piece of a body, from the thread that transfers it.

        Each request has a time limit and a limited number of retries, so it counts as progress.
        """
        self._settings = settings
        self._on_progress = on_progress
        self.bucket = settings.s3_bucket
        self.client = _new_client(settings)
        self.client.meta.events.register("before-send.s3", self._request_sent)

    def check(self) -> None:
        """Reach the bucket; raises ServiceUnavailableError with one sentence that names the cause."""
        with self._mapped(f"the bucket {self.bucket}", "bucket"):
            try:
                self.client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                if _code(error) in _MISSING | {"NoSuchBucket"}:
                    raise ServiceUnavailableError(
                        f"S3 at {self._settings.s3_endpoint} has no bucket {self.bucket}; create it or set S3_BUCKET"
                    ) from error
                raise

    def upload_archive(self, local_path: Path, batch_id: str, progress: Progress | None = None) -> str:
        """Upload an archive and check the stored size -> the key."""
        key = archive_key(batch_id)
        self._upload(local_path, key, "application/x-tar", progress)
        stored, size = self.size(key), local_path.stat().st_size
        if stored != size:
            raise RetryableError(f"{key} has {stored} bytes in S3, but {size} were sent; the upload is repeated")
        return key

    def upload_opus(self, local_path: Path, audio_id: int, date_str: str) -> str:
        """Upload a finished clip -> the key. `date_str` is the UTC day, YYYY-MM-DD."""
        key = processed_key(audio_id, date_str)
        self.upload(local_path, key, "audio/ogg")
        return key

    def upload(
        self,
        local_path: Path,
        key: str,
        content_type: str = "application/octet-stream",
        progress: Progress | None = None,
    ) -> None:
        self._upload(local_path, key, content_type, progress)

    def download(self, key: str, target: Path, progress: Progress | None = None) -> None:
        """Fetch an object; MissingObjectError when the bucket has no such key."""
        with self._mapped(key, "read"):
            self.client.download_file(
                self.bucket, key, str(target), Callback=progress or self._piece_passed, Config=_transfer()
            )

    def size(self, key: str) -> int:
        """Bytes of an object; MissingObjectError when the bucket has no such key."""
        with self._mapped(key, "read"):
            return self.client.head_object(Bucket=self.bucket, Key=key)["ContentLength"]

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin with `prefix`, in order."""
        return (key for key, _ in self.modified(prefix))

    def modified(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """All keys that begin with `prefix`, with the time of their upload."""
        with self._mapped(f"{prefix}*", "bucket"):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                for entry in page.get("Contents", []):
                    yield entry["Key"], entry["LastModified"]

    def delete(self, key: str) -> None:
        """Delete an object; does nothing when there is none."""
        with self._mapped(key, "write"):
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def stored_size(self, key: str) -> int | None:
        """Bytes of an object, or None when the bucket has no such key."""
        try:
            return self.size(key)
        except MissingObjectError:
            return None

    def _upload(self, local_path: Path, key: str, content_type: str, progress: Progress | None) -> None:
        if not local_path.is_file():
            raise RetryableError(f"{local_path} does not exist, so it cannot be uploaded as {key}")
        with self._mapped(key, "write", size=local_path.stat().st_size):
            self.client.upload_file(
                str(local_path),
                self.bucket,
                key,
                ExtraArgs={"ContentType": content_type},
                Callback=progress or self._piece_passed,
                Config=_transfer(),
            )

    def _request_sent(self, **_: object) -> None:
        self._on_progress()

    def _piece_passed(self, _: int) -> None:
        self._on_progress()

    @contextmanager
    def _mapped(self, subject: str, operation: Operation, *, size: int = 0) -> Iterator[None]:
        endpoint = self._settings.s3_endpoint
        try:
            yield
        except (ClientError, Boto3Error) as error:
            # boto3's transfer manager hides the service's answer in its own exception's context.
            cause = error if isinstance(error, ClientError) else error.__context__
            if isinstance(cause, ClientError):
                if operation != "bucket" and _is_about_the_request(cause):
                    self.check()  # raises when the bucket does not answer either: then it is no job's fault
                    raise self._answer_about_one(subject, _code(cause), cause, operation, size) from error
                raise self._answer_about_all(subject, _code(cause), cause) from error
            raise ServiceUnavailableError(f"S3 at {endpoint} failed on {subject}: {cause or error}") from error
        except ParamValidationError as error:
            raise PermanentError(f"{subject!r} is not a valid key in S3 ({error}); correct the key") from error
        except BotoCoreError as error:
            raise ServiceUnavailableError(
                f"S3 at {endpoint} cannot be reached ({subject}); check S3_ENDPOINT (https? port?), firewall ({error})"
            ) from error
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise OperatorError(
                    f"the disk is full, so {subject} cannot be downloaded; make room on the scratch volume"
                ) from error
            raise

    def _answer_about_all(self, subject: str, code: str, cause: ClientError) -> ServiceUnavailableError:
        """The error for a failure of the service or of the whole bucket."""
        endpoint = self._settings.s3_endpoint
        if code == "NoSuchBucket":
            return ServiceUnavailableError(f"S3 at {endpoint} has no bucket {self.bucket}; check S3_BUCKET")
        if code in _REFUSED:
            return ServiceUnavailableError(
                f"S3 at {endpoint} refuses access to {subject} ({code}); check S3_ACCESS_KEY, S3_SECRET_KEY and this "
                "host's clock"
            )
        return ServiceUnavailableError(f"S3 at {endpoint} failed on {subject}: {cause}")

    def _answer_about_one(
        self, subject: str, code: str, cause: ClientError, operation: Operation, size: int
    ) -> PipelineError:
        """The error for a failure of this key alone, when the bucket answers."""
        here = f"bucket {self.bucket} of S3 at {self._settings.s3_endpoint}"
        if code in _CHANGING:
            return RetryableError(
                f"{subject} in {here} is being changed by another request ({cause}); the request is repeated"
            )
        # All keys that we write are alike. A refusal comes from a missing right or a quota, not from one clip.
        if operation == "write" and not (code in _TOO_LARGE and size > MULTIPART_THRESHOLD):
            return OneArchiveError(
                f"{here} answers, but refuses to write {subject} ({cause}); check the access key's right to write, "
                "and the quota"
            )
        if code in _MISSING:
            return MissingObjectError(
                f"S3 has no object {subject} in bucket {self.bucket}; check the key, or upload the object and retry"
            )
        if code in _COLD:
            return PermanentError(
                f"{subject} is in an archive tier of {here} and cannot be read ({code}); restore it, then retry"
            )
        if code in _REFUSED:
            # In some services a change of rights takes a while, so the request is tried again.
            return RetryableError(
                f"{here} answers, but refuses access to {subject} ({code}); check that the object exists and check its "
                "access rights (S3 also refuses a missing object to a key without the right to list), then retry"
            )
        return PermanentError(
            f"{here} answers, but rejects requests for {subject} ({cause}); check the key, then retry or drop it"
        )


def _is_about_the_request(error: ClientError) -> bool:
    """Whether the failure may be about this key alone. A broken or overloaded service answers 5xx, 429 or 408."""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = _code(error)
    return 400 <= status < 500 and status not in {408, 429} and code not in _BUSY | {"NoSuchBucket"}


def _new_client(settings: Settings) -> S3Client:
    # Older Swift and Ceph reject the checksums that newer boto3 adds. Path addressing needs no wildcard DNS.
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        retries={"mode": "standard", "max_attempts": 3},
        connect_timeout=10,
        read_timeout=60,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    with _one_at_a_time:
        client: S3Client = _session().client(
            "s3",
            endpoint_url=settings.s3_endpoint,
            aws_access_key_id=settings.s3_access_key,
            aws_secret_access_key=settings.s3_secret_key,
            region_name=settings.s3_region,
            verify=None if settings.s3_ca_file is None else str(settings.s3_ca_file),
            config=config,
        )
    return client


@functools.cache
def _session() -> boto3.session.Session:
    """Return the process's session. It keeps the description of S3, which takes 0.1 s of processor time to read."""
    return boto3.session.Session()


def _transfer() -> TransferConfig:
    return TransferConfig(multipart_threshold=MULTIPART_THRESHOLD, multipart_chunksize=PART_SIZE, max_concurrency=4)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@functools.cache
def _store() -> ObjectStore:
    return ObjectStore(load_settings())


def get_s3_client() -> S3Client:
    """Return an S3 client that uses the settings of the environment."""
    return _store().client


def upload_archive(local_path: str | Path, batch_id: str) -> str:
    """Upload an archive -> its key."""
    return _store().upload_archive(Path(local_path), batch_id)


def download_archive(s3_key: str, batch_id: str) -> Path:
    """Download an archive into `{SCRATCH_ROOT}/{batch_id}/` -> the file."""
    target = load_settings().scratch_root / batch_id / Path(s3_key).name
    target.parent.mkdir(parents=True, exist_ok=True)
    _store().download(s3_key, target)
    return target


def upload_opus(local_path: str | Path, audio_id: int, date_str: str) -> str:
    """Upload a converted clip -> its key."""
    return _store().upload_opus(Path(local_path), audio_id, date_str)


def cleanup_scratch(batch_id: str) -> None:
    """Remove `{SCRATCH_ROOT}/{batch_id}/`; a second call changes nothing.

    Raises OperatorError, and removes nothing, while a worker fills the directory; PermanentError when `batch_id` is not
    a batch id.
    """
    root = load_settings().scratch_root
    if not directories.remove(root, batch_id):
        raise OperatorError(
            f"{root / batch_id} is not removed: a worker on this host unpacks into it; try again when it has finished"
        )


def check_s3_connection() -> bool:
    """Return True when the bucket can be reached; log the reason when not."""
    try:
        _store().check()
    except OperatorError as error:
        log.error("%s", error)  # noqa: TRY400 -- the sentence is for the operator, who needs no traceback
        return False
    return True


def get_archive_size(s3_key: str) -> int:
    """Return the size of an archive in S3, in bytes."""
    return _store().size(s3_key)
