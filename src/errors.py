"""Every failure the pipeline tells apart, and what each one means for the job at hand.

Foreign exceptions (botocore, redis, psycopg2, av, asyncssh …) are mapped to these at the edges, where they are caught,
and nowhere else. Each message is one sentence that names what is wrong, where, and what to do.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base of all of them."""


class RetryableError(PipelineError):
    """It may go well the next time: back off, three attempts, then `queue:failed`."""


class PermanentError(PipelineError):
    """This input will never do (bad payload, broken audio): straight to `queue:failed`."""


class MissingObjectError(PermanentError):
    """The bucket answers, and has no such key."""


class PayloadError(PermanentError):
    """A job's payload cannot be read."""


class ArchiveError(PermanentError):
    """An archive cannot be read, or breaks a limit."""


class AudioError(PermanentError):
    """An audio file cannot be read, or breaks a limit."""


class OperatorError(PipelineError):
    """Somebody must act (service down, bad credentials, disk full); no job is to blame and none loses an attempt."""


class OneArchiveError(OperatorError):
    """Somebody must act, but only one archive or object is concerned; whoever has others goes on with those."""


class DeviceMemoryError(OperatorError):
    """The GPU (or the processor) ran out of memory over a job: BATCH_SIZE is too large for it."""


class ConfigError(OperatorError):
    """A setting is missing or malformed: the program stops at once."""


class ModelError(OperatorError):
    """A model is missing or not what the manifest says."""


class PolicyError(OperatorError):
    """A policy file is malformed; the message carries file and line."""


class ServiceUnavailableError(OperatorError):
    """Redis, Postgres, S3 or the ssh host cannot be reached or refuses us."""


class RefusedError(PipelineError):
    """An operator asked for a change that cannot be made as things are; nothing was changed."""


class UnknownError(RefusedError):
    """No batch or dead letter has the id that an operator gave."""


class HostGoneError(PipelineError):
    """The job would go to the list of a host that is gone, where no worker takes it."""

    def __init__(self, host: str) -> None:
        super().__init__(f"host {host}, on whose disk its clip lay, is gone")
        self.host = host
