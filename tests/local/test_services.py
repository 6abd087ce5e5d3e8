"""The local services: they keep their data over a restart, leave nothing behind, and behave like the real ones."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import psycopg2
import pytest
import redis
from botocore.exceptions import ClientError

from local.services import Database, ServiceError, Services
from local.services.process import reap_leftover, started_at
from local.services.state import State, port_is_free
from tests.local.helpers import (
    execute,
    get,
    http_get,
    killed_program_with_services,
    put,
    run,
    s3_client,
    sftp_run,
    ssh_run,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.conftest import SshHostFixture


@pytest.fixture
def s3(services: Services) -> Iterator[S3Client]:
    client = s3_client(services)
    yield client
    client.close()


def running(pid: int) -> bool:
    return started_at(pid) is not None


class TestLife:
    """Start, stop, start again, crash."""

    def test_a_restart_keeps_data_and_ports_and_a_stop_leaves_nothing(self, tmp_path: Path) -> None:
        with Services(tmp_path, durable=False) as first:
            database = first.make_database("kept")
            first.make_bucket("kept")
            with redis.Redis(port=first.redis_port, password=first.redis_password) as client:
                client.set("kept", "yes")
            execute(database.pipeline_dsn, "INSERT INTO batches (batch_id) VALUES ('kept')")
            put(first, "kept", "a", b"hello")
            pids = [process.pid for process in first.processes if process.pid]
            environment = first.environ()

        assert len(pids) == 7
        assert not any(running(pid) for pid in pids)
        ports = json.loads((tmp_path / "state.json").read_text())["ports"]
        assert all(port_is_free(port) for port in ports.values())
        assert list((tmp_path / "run").iterdir()) == []

        with Services(tmp_path, durable=False) as second:
            assert second.environ() == environment
            with redis.Redis(port=second.redis_port, password=second.redis_password) as client:
                assert client.get("kept") == b"yes"
            assert execute(database.pipeline_dsn, "SELECT batch_id FROM batches") == [("kept",)]
            assert get(second, "kept", "a") == b"hello"

    @pytest.mark.thorough
    def test_a_port_that_somebody_took_is_replaced_and_the_data_are_still_there(self, tmp_path: Path) -> None:
        with Services(tmp_path, durable=False) as first:
            first.make_bucket("kept")
            put(first, "kept", "a", b"hello")
            taken = first.state.port("swift-object")
        with socket.socket() as squatter:
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            squatter.bind(("127.0.0.1", taken))
            squatter.listen()
            with Services(tmp_path, durable=False) as second:
                assert second.state.port("swift-object") != taken
                assert get(second, "kept", "a") == b"hello"

    def test_a_second_program_is_refused_while_the_first_runs(self, services: Services) -> None:
        with pytest.raises(ServiceError, match=f"Process {os.getpid()} already runs the services"):
            Services(services.root).start()

    @pytest.mark.skipif(sys.platform != "linux", reason="other kernels tell children nothing when their parent dies")
    @pytest.mark.thorough
    def test_services_end_when_the_program_that_started_them_is_killed(self, tmp_path: Path) -> None:
        pids = killed_program_with_services(tmp_path)
        assert len(pids) == 7
        deadline = time.monotonic() + 10
        while any(running(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [pid for pid in pids if running(pid)] == []
        with Services(tmp_path, durable=False) as again:
            assert len(again.processes) == 7

    def test_a_service_that_cannot_start_shows_the_end_of_its_log(self, tmp_path: Path) -> None:
        services = Services(tmp_path, durable=False)
        (tmp_path / "postgres/data").mkdir(parents=True)
        (tmp_path / "postgres/data/PG_VERSION").write_text("7")
        with pytest.raises(ServiceError, match=r"(?s)PostgreSQL ended while starting.*its log says:\n  .*postgres"):
            services.start()
        assert not any(process.alive() for process in services.processes)

    def test_a_leftover_whose_pid_now_belongs_to_somebody_else_is_left_alone(self, tmp_path: Path) -> None:
        with subprocess.Popen(["sleep", "30"]) as bystander:
            pidfile = tmp_path / "old.pid"
            pidfile.write_text(json.dumps({"pid": bystander.pid, "started": "long ago"}))
            assert not reap_leftover(pidfile)
            assert running(bystander.pid)
            bystander.kill()

    def test_what_a_data_directory_remembers_is_private(self, services: Services) -> None:
        for name in ("state.json", "valkey/valkey.conf", "swift/etc/proxy-server.conf", "ssh/id_ed25519"):
            assert stat.S_IMODE((services.root / name).stat().st_mode) == 0o600

    def test_no_command_line_carries_a_secret(self, services: Services) -> None:
        secrets = State(services.root)._secrets.values()
        for process in services.processes:
            assert not any(secret in str(word) for word in process.command for secret in secrets)


class TestRedis:
    def test_it_wants_its_password_and_never_evicts(self, services: Services, redis_db: redis.Redis) -> None:
        assert redis_db.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert redis_db.config_get("appendonly") == {"appendonly": "yes"}
        with (
            redis.Redis(port=services.redis_port) as stranger,
            pytest.raises(redis.AuthenticationError, match="authenticate"),
        ):
            stranger.ping()

    def test_the_commands_of_the_guide_work_from_the_bin_directory(
        self, services: Services, redis_db: redis.Redis, settings_env: dict[str, str]
    ) -> None:
        env = os.environ | settings_env | {"REDISCLI_AUTH": services.redis_password}
        payload = '{"batch_id": "test-001", "s3_key": "archives/test-001.tar"}'
        pushed = run([services.bin_dir / "redis-cli", "LPUSH", "queue:unpack", payload], env)
        assert pushed.strip() == "1"
        assert redis_db.lrange("queue:unpack", 0, -1) == [payload.encode()]


class TestPostgres:
    def test_each_role_needs_its_password_over_tcp_and_over_the_socket(
        self, services: Services, database: Database
    ) -> None:
        for host in ("127.0.0.1", str(services.postgres.socket_dir)):
            with pytest.raises(psycopg2.OperationalError, match="password"):
                psycopg2.connect(database.pipeline_dsn, host=host, password="wrong")
            psycopg2.connect(database.pipeline_dsn, host=host).close()

    def test_the_schema_can_be_applied_again(self, services: Services, database: Database) -> None:
        services.apply_schema(database.name)
        assert execute(database.ra_app_dsn, "SELECT count(*) FROM ra_queue") == [(0,)]

    def test_psql_stands_beside_redis_cli(self, services: Services, database: Database) -> None:
        env = os.environ | {"PGPASSWORD": services.postgres.password("pipeline")}
        dsn = f"host=127.0.0.1 port={services.postgres_port} user=pipeline dbname={database.name}"
        assert run([services.bin_dir / "psql", dsn, "-Atc", "SELECT count(*) FROM ra_queue"], env).strip() == "0"


class TestS3:
    def test_ranges_are_answered_with_exactly_the_bytes_asked_for(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="clip.opus", Body=bytes(range(200)))
        part = s3.get_object(Bucket=bucket, Key="clip.opus", Range="bytes=10-19")
        assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert part["ContentRange"] == "bytes 10-19/200"
        assert part["Body"].read() == bytes(range(10, 20))
        with pytest.raises(ClientError, match="InvalidRange"):
            s3.get_object(Bucket=bucket, Key="clip.opus", Range="bytes=200-")

    def test_a_presigned_address_works_and_a_forged_one_does_not(self, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="a", Body=b"hello")
        address = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"}, ExpiresIn=60)
        assert http_get(address) == (200, b"hello")
        assert http_get(address[:-4] + "0000")[0] == 403

    def test_the_reading_key_reads_and_cannot_write(self, services: Services, s3: S3Client, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="a", Body=b"hello")
        keys = services.ra_app_environ()
        reader = s3_client(services, keys["S3_ACCESS_KEY"], keys["S3_SECRET_KEY"])
        assert reader.get_object(Bucket=bucket, Key="a")["Body"].read() == b"hello"
        for forbidden in (
            lambda: reader.put_object(Bucket=bucket, Key="b", Body=b"x"),
            lambda: reader.delete_object(Bucket=bucket, Key="a"),
        ):
            with pytest.raises(ClientError, match="AccessDenied"):
                forbidden()
        reader.close()

    def test_a_dropped_bucket_is_gone_with_its_parts(self, services: Services, s3: S3Client) -> None:
        services.make_bucket("dropped")
        upload = s3.create_multipart_upload(Bucket="dropped", Key="big")["UploadId"]
        s3.upload_part(Bucket="dropped", Key="big", UploadId=upload, PartNumber=1, Body=b"x" * 100)
        services.drop_bucket("dropped")
        assert "dropped" not in {found["Name"] for found in s3.list_buckets()["Buckets"]}


class TestSshHost:
    def test_archives_can_be_listed_read_from_an_offset_and_removed(self, ssh_host: SshHostFixture) -> None:
        (ssh_host.directory / "a.tar").write_bytes(b"0123456789")

        async def use(sftp: asyncssh.SFTPClient) -> bytes:
            assert "a.tar" in await sftp.listdir("/archives")
            async with sftp.open("/archives/a.tar", "rb") as file:
                await file.seek(4)
                rest = await file.read()
            await sftp.remove("/archives/a.tar")
            assert isinstance(rest, bytes)
            return rest

        assert sftp_run(ssh_host, use) == b"456789"
        assert not (ssh_host.directory / "a.tar").exists()

    @pytest.mark.parametrize("path", ["../../../../etc/passwd", "/etc/passwd", "/archives/../../etc/passwd"])
    def test_a_path_cannot_leave_the_shared_directory(self, ssh_host: SshHostFixture, path: str) -> None:
        async def use(sftp: asyncssh.SFTPClient) -> bool:
            return await sftp.exists(path)

        assert sftp_run(ssh_host, use) is False

    def test_a_link_that_leads_out_is_refused(self, ssh_host: SshHostFixture) -> None:
        (ssh_host.directory / "way-out").symlink_to("/etc")

        async def use(sftp: asyncssh.SFTPClient) -> None:
            async with sftp.open("/archives/way-out/passwd", "rb") as file:
                await file.read()

        with pytest.raises(asyncssh.SFTPPermissionDenied, match="leads out"):
            sftp_run(ssh_host, use)

    def test_another_key_another_user_and_a_shell_are_refused(self, ssh_host: SshHostFixture) -> None:
        async def nothing(_: asyncssh.SFTPClient) -> None:
            return None

        stranger = asyncssh.generate_private_key("ssh-ed25519")
        with pytest.raises(asyncssh.PermissionDenied):
            sftp_run(ssh_host, nothing, client_keys=[stranger])
        with pytest.raises(asyncssh.PermissionDenied):
            sftp_run(ssh_host, nothing, username="root")

        async def shell(connection: asyncssh.SSHClientConnection) -> None:
            await connection.run("id")

        with pytest.raises(asyncssh.ChannelOpenError):
            ssh_run(ssh_host, shell)
