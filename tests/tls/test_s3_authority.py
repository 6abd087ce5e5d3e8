"""S3 with a certificate of an authority of the university: refused by default, accepted with S3_CA_FILE."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from config import Settings
from errors import ServiceUnavailableError
from s3_utils import ObjectStore
from tests.tls.in_front import make_certificate, tls_in_front


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return make_certificate(tmp_path, "127.0.0.1")


@pytest.fixture
def over_tls(settings: Settings, certificate: tuple[Path, Path]) -> Iterator[Settings]:
    """The settings of a worker whose S3 is behind TLS. Signatures stay valid."""
    target = urlsplit(settings.s3_endpoint)
    with tls_in_front((str(target.hostname), int(target.port or 0)), "127.0.0.1", certificate) as endpoint:
        yield settings.model_copy(update={"s3_endpoint": endpoint})


def test_the_authority_of_s3_is_trusted_only_if_it_is_named(over_tls, certificate):
    with pytest.raises(ServiceUnavailableError, match="cannot be reached"):
        ObjectStore(over_tls).check()
    ObjectStore(over_tls.model_copy(update={"s3_ca_file": certificate[0]})).check()
