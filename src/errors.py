"""The pipeline's exceptions. The class of an exception decides what happens to the job.

Code that calls a library (botocore, redis, psycopg2, av, asyncssh …) catches the library's exceptions and raises one of
these. Each message is one sentence: what is wrong, where, and what to do.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base class of all exceptions in this file."""


class RetryableError(PipelineError):
    """Another attempt may succeed: the worker backs off, tries three times, then moves the job to `queue:failed`."""


class PermanentError(PipelineError):
    """The input is wrong and stays wrong (bad payload, broken audio): the job goes to `queue:failed` at once."""


class MissingObjectError(PermanentError):
    """The bucket answers, but has no object with this key."""


class PayloadError(PermanentError):
    """A job's payload cannot be read."""


class ArchiveError(PermanentError):
    """An archive cannot be read, or breaks a limit."""


class AudioError(PermanentError):
    """An audio file cannot be read, or breaks a limit."""


class OperatorError(PipelineError):
    """A person must act (service down, bad credentials, disk full). No job caused this, so none loses an attempt."""


class OneArchiveError(OperatorError):
    """A person must act, but only for one archive or object. A worker continues with the others."""


class DeviceMemoryError(OperatorError):
    """The GPU (or the CPU) ran out of memory during a job: BATCH_SIZE is too large for it."""


class ConfigError(OperatorError):
    """A setting is missing or malformed: the program stops at once."""


class ModelError(OperatorError):
    """A model is missing or differs from the manifest."""


class PolicyError(OperatorError):
    """A policy file is malformed; the message names the file and the line."""


class ExamplesError(OperatorError):
    """A file of examples for a policy is malformed; the message names the file and the line."""


class ServiceUnavailableError(OperatorError):
    """Redis, Postgres, S3 or the ssh host cannot be reached, or it refuses the connection."""


class RefusedError(PipelineError):
    """An operator asked for a change that cannot be made as things are; nothing was changed."""


class UnknownError(RefusedError):
    """No batch or dead letter has the id that an operator gave."""


class HostGoneError(PipelineError):
    """The job belongs in the queue of a host that is gone, where no worker would ever take it."""

    def __init__(self, host: str) -> None:
        super().__init__(f"host {host}, which held the clip's file, is gone")
        self.host = host
