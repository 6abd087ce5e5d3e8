"""Fetching archives from the ssh host: the list, interrupted fetches, refusals, and the messages for the operator."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from archives.sources.remote_archive import RemoteArchive, batch_id
from archives.sources.ssh import WINDOW_BYTES, ArchiveHost
from config import load_settings
from errors import ConfigError, OperatorError, RetryableError, ServiceUnavailableError
from tests.archives.sftp_host import SftpHost

ARCHIVE = RemoteArchive("a.tar", "/srv/archives/a.tar", 1000, 1_750_602_652)
BIG = os.urandom(1 << 20) * 24  # three windows


@pytest.fixture
def sftp_host(tmp_path: Path) -> Iterator[SftpHost]:
    folder = tmp_path / "host"
    folder.mkdir()
    with SftpHost(folder) as host:
        yield host


def test_a_batch_id_is_the_same_every_time_and_tells_when_the_archive_was_made() -> None:
    assert batch_id(ARCHIVE, "ec2") == batch_id(ARCHIVE, "ec2")
    assert batch_id(ARCHIVE, "ec2").startswith("20250622-143052-")


@pytest.mark.parametrize(
    "other",
    [
        RemoteArchive("b.tar", "/srv/archives/b.tar", 1000, 1_750_602_652),
        RemoteArchive("a.tar", "/srv/archives/a.tar", 1001, 1_750_602_652),
        RemoteArchive("a.tar", "/srv/archives/a.tar", 1000, 1_750_602_653),
    ],
)
def test_another_archive_gets_another_batch_id(other: RemoteArchive) -> None:
    assert batch_id(other, "ec2") != batch_id(ARCHIVE, "ec2")
    assert other.identity != ARCHIVE.identity


def test_the_same_path_on_another_host_gets_another_batch_id() -> None:
    assert batch_id(ARCHIVE, "ec2") != batch_id(ARCHIVE, "ec3")


def test_archives_are_listed_oldest_first_and_nothing_else(sftp_host: SftpHost) -> None:
    sftp_host.put("late.tar.xz", b"22", mtime=2_000)
    sftp_host.put("early.tar", b"1", mtime=1_000)
    for name in (".hidden.tar", "c.tar.part", "d.tar.tmp", "E.TAR.PART", "notes.txt", "f.tar~"):
        sftp_host.put(name, b"x")
    (sftp_host.files / "archives" / "folder.tar").mkdir()
    (sftp_host.files / "archives" / "link.tar").symlink_to("early.tar")
    with sftp_host.client() as client:
        found = client.list("/archives", "*.tar*")
    assert [(item.name, item.size, item.mtime) for item in found] == [
        ("early.tar", 1, 1_000),
        ("late.tar.xz", 2, 2_000),
    ]
    assert found[0].path == "/archives/early.tar"


def test_the_pattern_decides(sftp_host: SftpHost) -> None:
    sftp_host.put("2026-01-01_00-10.tar.xz", b"1")
    sftp_host.put("other.tar", b"1")
    with sftp_host.client() as client:
        assert [item.name for item in client.list("/archives", "2026-*.tar.xz")] == ["2026-01-01_00-10.tar.xz"]


def test_a_name_that_is_not_utf8_is_listed_and_fetched(sftp_host: SftpHost, tmp_path: Path) -> None:
    (sftp_host.files / "archives" / os.fsdecode(b"caf\xe9.tar")).write_bytes(b"data")
    with sftp_host.client() as client:
        (archive,) = client.list("/archives")
        assert archive.name == "caf\\xe9.tar"
        assert client.fetch(archive, tmp_path / "x.tar").read_bytes() == b"data"
    assert batch_id(archive, "ec2")


@pytest.mark.parametrize("size", [0, 1, 4096, WINDOW_BYTES, WINDOW_BYTES + 1, len(BIG)])
def test_a_fetched_archive_is_the_same_byte_for_byte(sftp_host: SftpHost, tmp_path: Path, size: int) -> None:
    sftp_host.put("a.tar", BIG[:size])
    seen: list[tuple[int, int]] = []
    with sftp_host.client() as client:
        (archive,) = client.list("/archives")
        target = client.fetch(archive, tmp_path / "in" / "a.tar", lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == BIG[:size]
    assert [path.name for path in target.parent.iterdir()] == ["a.tar"]
    assert seen == [(min(end, size), size) for end in range(WINDOW_BYTES, size + WINDOW_BYTES, WINDOW_BYTES)]


def test_what_is_there_already_is_not_fetched_again(sftp_host: SftpHost, tmp_path: Path) -> None:
    sftp_host.put("a.tar", BIG)
    with sftp_host.client() as client:
        (archive,) = client.list("/archives")
        client.fetch(archive, tmp_path / "a.tar")
        asked = sftp_host.bytes_asked
        client.fetch(archive, tmp_path / "a.tar")
    assert sftp_host.bytes_asked == asked


def test_a_fetch_goes_on_where_a_cut_connection_left_it(sftp_host: SftpHost, tmp_path: Path) -> None:
    sftp_host.put("a.tar", BIG)

    def cut(offset: int, channel: Any) -> None:
        if offset >= 2 * WINDOW_BYTES:
            channel.get_connection().abort()

    sftp_host.on_read = cut
    with sftp_host.client() as client:
        (archive,) = client.list("/archives")
        with pytest.raises(ServiceUnavailableError, match=r"the bytes received so far are kept"):
            client.fetch(archive, tmp_path / "a.tar")
        (part,) = tmp_path.glob("*.part")
        kept = part.stat().st_size
        assert kept >= WINDOW_BYTES
        sftp_host.on_read, sftp_host.bytes_asked = None, 0
        assert client.fetch(archive, tmp_path / "a.tar").read_bytes() == BIG  # the same client connects anew
    assert sftp_host.bytes_asked < len(BIG) - kept + WINDOW_BYTES
    assert list(tmp_path.glob("*.part")) == []


def test_a_fetch_that_the_caller_stops_is_continued(sftp_host: SftpHost, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(_done: int, _total: int) -> None:
        raise StopError

    sftp_host.put("a.tar", BIG)
    with sftp_host.client() as client:
        (archive,) = client.list("/archives")
        with pytest.raises(StopError):
            client.fetch(archive, tmp_path / "a.tar", stop)
    with sftp_host.client() as client:
        seen: list[int] = []
        client.fetch(archive, tmp_path / "a.tar", lambda done, _: seen.append(done))
    assert seen == [2 * WINDOW_BYTES, len(BIG)]
    assert (tmp_path / "a.tar").read_bytes() == BIG


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _replace(path: Path) -> None:
    path.write_bytes(os.urandom(len(BIG)))


def _shrink(path: Path) -> None:
    os.truncate(path, WINDOW_BYTES + 5)


@pytest.mark.parametrize(
    "change", [_replace, *(pytest.param(change, marks=pytest.mark.thorough) for change in (_grow, _shrink))]
)
def test_an_archive_that_changes_meanwhile_is_not_taken(
    sftp_host: SftpHost, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    source = sftp_host.put("a.tar", BIG)
    done: list[bool] = []

    def interfere(offset: int, _channel: Any) -> None:
        if offset >= WINDOW_BYTES and not done:
            done.append(True)
            change(source)

    sftp_host.on_read = interfere
    with sftp_host.client() as client:
        (archive,) = client.list("/archives")
        with pytest.raises(RetryableError, match=r"a\.tar changed on 127\.0\.0\.1"):
            client.fetch(archive, tmp_path / "a.tar")
        assert list(tmp_path.glob("a.tar*")) == []
        (archive,) = client.list("/archives")
        assert client.fetch(archive, tmp_path / "a.tar").read_bytes() == source.read_bytes()


def test_a_part_of_an_earlier_version_is_forgotten(sftp_host: SftpHost, tmp_path: Path) -> None:
    sftp_host.put("a.tar", b"new")
    (tmp_path / "a.tar.000000000000.part").write_bytes(b"ol")
    with sftp_host.client() as client:
        client.fetch(client.list("/archives")[0], tmp_path / "a.tar")
    assert [path.name for path in tmp_path.glob("a.tar*")] == ["a.tar"]


def test_an_archive_that_was_removed_may_be_tried_again(sftp_host: SftpHost, tmp_path: Path) -> None:
    source = sftp_host.put("a.tar", b"data")
    with sftp_host.client() as client:
        (archive,) = client.list("/archives")
        source.unlink()
        (tmp_path / "in").mkdir()
        with pytest.raises(RetryableError, match="no longer exists"):
            client.fetch(archive, tmp_path / "in" / "a.tar")
    assert list((tmp_path / "in").iterdir()) == []


def test_an_archive_larger_than_the_free_space_is_refused_before_it_is_fetched(
    sftp_host: SftpHost, tmp_path: Path
) -> None:
    source = sftp_host.put("a.tar", b"")
    os.truncate(source, 1 << 42)  # 4 TiB, sparse
    with sftp_host.client() as client:
        (archive,) = client.list("/archives")
        with pytest.raises(OperatorError, match=r"no space .* 4,398,046,511,104 bytes and .*TRANSFER_STAGING"):
            client.fetch(archive, tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("prepare", "changes", "error", "sentence"),
    [
        ("unknown", {}, ServiceUnavailableError, r"is not in .*ssh-keyscan -p \d+ 127\.0\.0\.1 >> "),
        ("changed", {}, ServiceUnavailableError, r"host key .* this may be an attack"),
        (
            "",
            {"known_hosts": Path("/nonexistent/known_hosts")},
            ServiceUnavailableError,
            r"known_hosts .* does not exist.*ssh-keyscan",
        ),
        ("", {"key": Path("/nonexistent/key")}, ConfigError, r"TRANSFER_SSH_KEY=/nonexistent/key cannot be read"),
        ("open key", {}, ConfigError, r"can be read by others: run `chmod 600 "),
        ("broken key", {}, ConfigError, r"TRANSFER_SSH_KEY=.* must hold a private key"),
        ("locked key", {}, ConfigError, r"without a passphrase"),
        ("wrong key", {}, ServiceUnavailableError, r"refuses our key.*authorized_keys"),
        ("", {"port": 1}, ServiceUnavailableError, r"no ssh connection to ubuntu@127\.0\.0\.1:1 .*TRANSFER_SSH_HOST"),
        ("", {"host": "nowhere.invalid"}, ServiceUnavailableError, r"no ssh connection to ubuntu@nowhere\.invalid"),
    ],
)
def test_a_connection_that_cannot_be_made_says_what_to_do(
    sftp_host: SftpHost, prepare: str, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    if prepare == "unknown":
        sftp_host.known_hosts.write_text("")
    elif prepare == "changed":
        sftp_host.write_known_hosts(other)
    elif prepare == "open key":
        sftp_host.user_key.chmod(0o644)
    elif prepare == "broken key":
        sftp_host.user_key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    elif prepare == "locked key":
        other.write_private_key(sftp_host.user_key, "pkcs8-pem", passphrase="secret")
    elif prepare == "wrong key":
        other.write_private_key(sftp_host.user_key)
    with sftp_host.client(**changes) as client, pytest.raises(error, match=sentence):
        client.list("/archives")


def test_a_host_that_accepts_and_says_nothing_is_given_up(sftp_host: SftpHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archives.sources.ssh.CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with sftp_host.client(port=port) as client, pytest.raises(ServiceUnavailableError, match="no ssh connection"):
            client.list("/archives")


def test_a_directory_that_is_missing_names_its_setting(sftp_host: SftpHost) -> None:
    with sftp_host.client() as client, pytest.raises(ServiceUnavailableError, match="TRANSFER_REMOTE_DIR"):
        client.list("/nowhere")


def test_a_client_that_was_refused_works_once_the_reason_is_gone(sftp_host: SftpHost) -> None:
    sftp_host.put("a.tar", b"1")
    line = sftp_host.known_hosts.read_text()
    with sftp_host.client() as client:
        sftp_host.known_hosts.write_text("")
        with pytest.raises(ServiceUnavailableError):
            client.list("/archives")
        sftp_host.known_hosts.write_text(line)
        assert len(client.list("/archives")) == 1


def test_a_connection_that_was_closed_while_idle_is_made_anew(sftp_host: SftpHost) -> None:
    sftp_host.put("a.tar", b"1")
    with sftp_host.client() as client:
        for _ in range(20):  # whether the client has seen the end before it asks again is a race: both must do
            client.list("/archives")
            sftp_host.drop_connections()
            assert len(client.list("/archives")) == 1


def test_settings_without_a_host_name_the_variable() -> None:
    settings = load_settings({"S3_ENDPOINT": "http://s3", "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"})
    with pytest.raises(ConfigError, match="TRANSFER_SSH_HOST"):
        ArchiveHost.from_settings(settings)


@pytest.mark.thorough
def test_a_hundred_megabytes_arrive(sftp_host: SftpHost, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 100
    sftp_host.put("a.tar", data)
    with sftp_host.client() as client:
        assert client.fetch(client.list("/archives")[0], tmp_path / "a.tar").read_bytes() == data
