"""Scratch on a volume of 64 MB that becomes full at each step that writes to it.

The worker says so in one sentence, leaves no partial files, counts no attempt, and continues when there is room.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.services import Services
from tests.reliability.faulty_s3 import FaultyS3
from tests.reliability.scene import CLIPS, Scene, scene
from tests.reliability.tones import RATE, clip, clip_name
from tests.workers.processes import wait_until

VOLUME = 64 << 20
INODES = 2_000
BLOCK = 4_096
LONG = 20  # times the length of a usual clip: its Opus file is larger than its share of the compressed archive
ROOT_COMMAND = [] if os.geteuid() == 0 else ["sudo", "-n"]  # to mount takes root


class Volume:
    """A tmpfs, with `scratch/` on it and whatever is needed to fill it beside that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"

    def mount(self) -> None:
        self.folder.mkdir(exist_ok=True)
        options = f"size={VOLUME},nr_inodes={INODES},mode=0777"
        subprocess.run([*ROOT_COMMAND, "mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=True)
        self.scratch.mkdir()

    def unmount(self) -> None:
        subprocess.run([*ROOT_COMMAND, "umount", "--lazy", self.folder], check=True)

    def leave(self, bytes_: int) -> None:
        """Fill the volume, and leave this many bytes free."""
        free = os.statvfs(self.folder)
        with (self.folder / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, (free.f_bavail - -(-bytes_ // BLOCK)) * BLOCK)

    def leave_files(self, files: int) -> None:
        """Use the volume's inodes, and leave this many free: an empty file needs only an inode."""
        many = self.folder / "many"
        many.mkdir()
        for number in range(os.statvfs(self.folder).f_ffree - files):
            (many / str(number)).touch()

    def make_room(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)
        for path in (self.folder / "many").glob("*"):
            path.unlink()

    def is_clean(self) -> bool:
        return list(self.scratch.iterdir()) == []


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    made = Volume(tmp_path / "volume")
    made.mount()
    yield made
    made.unmount()


@pytest.fixture
def s3(services: Services) -> Iterator[FaultyS3]:
    with FaultyS3(services.s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def world(services: Services, volume: Volume, s3: FaultyS3, tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, services, S3_ENDPOINT=s3.endpoint, SCRATCH_ROOT=str(volume.scratch)) as opened:
        opened.scratch = volume.scratch
        yield opened


def long_clip(number: int) -> bytes:
    """The tone of `tones.clip`, LONG times as long: a tone's 0.3 s hold a whole number of periods."""
    with wave.open(io.BytesIO(clip(number))) as short:
        samples = short.readframes(short.getnframes())
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples * LONG)
    return file.getvalue()


def inject_compressed(world: Scene, batch_id: str) -> tuple[int, int]:
    """-> (bytes of the archive, bytes of its clips on disk)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:xz") as archive:
        for number in CLIPS:
            content = long_clip(number)
            info = tarfile.TarInfo(clip_name(number))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    key = f"archives/{batch_id}.tar"
    store = world.store()
    store.put_object(Bucket=world.bucket, Key=key, Body=file.getvalue())
    store.close()
    world.redis.rpush("queue:unpack", json.dumps({"batch_id": batch_id, "s3_key": key}))
    on_disk = sum(-(-len(long_clip(number)) // BLOCK) * BLOCK for number in CLIPS)
    return len(file.getvalue()), on_disk


@pytest.mark.parametrize(
    ("of_archive", "of_clips", "sentence"),
    [
        pytest.param(
            0.5, 0.0, "the disk is full, so archives/b1.tar cannot be downloaded; make room", id="while it is fetched"
        ),
        pytest.param(1.0, 0.5, "no space is left to unpack into", id="while it is unpacked"),
        pytest.param(1.0, 1.0, "cannot be written: No space left on device; check space", id="while it is converted"),
    ],
)
@pytest.mark.thorough
def test_an_archive_that_fills_the_disk_waits_for_room(
    world: Scene, s3: FaultyS3, volume: Volume, of_archive: float, of_clips: float, sentence: str
):
    on_its_way = s3.stall("GET", "/archives/")
    worker = world.start("unpack")
    archive, clips = inject_compressed(world, "b1")
    wait_until(lambda: on_its_way.hits, "the archive to be on its way")
    # Others fill the volume after the look at its room; blocks are whole, so one per file is allowed for.
    volume.leave(int(of_archive * archive) + int(of_clips * clips) + (BLOCK * 4 if of_clips == 1 else 0))
    on_its_way.lift()
    world.held(worker, sentence)
    wait_until(volume.is_clean, "scratch to be clean")
    assert world.redis.llen("queue:unpack") + len(world.redis.keys("inflight:*")) == 1
    volume.make_room()
    world.start("gpu")
    world.ends_well({"b1": CLIPS})


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        pytest.param(0, "cannot be changed (No space left on device); make room", id="the batch's directory"),
        pytest.param(1, "cannot be changed (No space left on device); make room", id="its marker"),
        pytest.param(2, "the disk is full, so archives/b1.tar cannot be downloaded; make room", id="the archive"),
        pytest.param(3, "no space is left to unpack into", id="the directory of its clips"),
        pytest.param(4, "no space is left to unpack into", id="the first clip"),
    ],
)
def test_a_volume_that_takes_no_more_files_is_waited_for(world: Scene, volume: Volume, files: int, sentence: str):
    worker = world.start("unpack")
    world.wait_for(worker, " ready")
    volume.leave_files(files)
    world.inject("b1", CLIPS)
    world.held(worker, sentence)
    wait_until(volume.is_clean, "scratch to be clean")
    volume.make_room()
    world.start("gpu")
    world.ends_well({"b1": CLIPS})


@pytest.mark.thorough
def test_a_full_disk_before_the_claim_leaves_the_job_in_its_queue(world: Scene, volume: Volume):
    worker = world.start("unpack")
    world.wait_for(worker, " ready")
    volume.leave(BLOCK)
    world.inject("b1", CLIPS)
    world.wait_for(worker, "not claiming yet")
    assert "needs 3 x that" in worker.log.read_text()
    assert world.redis.llen("queue:unpack") == 1
    volume.make_room()
    world.start("gpu")
    world.ends_well({"b1": CLIPS})


@pytest.mark.thorough
@pytest.mark.parametrize("room", ["no file", "no block"])
def test_a_clip_that_comes_back_from_s3_waits_for_room(world: Scene, volume: Volume, room: str):
    """The batch completed without the clip. An operator retries the clip while scratch is full."""
    store = world.store()
    store.put_object(Bucket=world.bucket, Key="failed/b1/00001.wav", Body=clip(0))
    store.close()
    worker = world.start("gpu")
    world.wait_for(worker, " ready")
    if room == "no file":
        volume.leave_files(0)
    else:
        volume.leave(0)
    job = {"batch_id": "b1", "original_filename": clip_name(0), "opus_path": f"{volume.scratch}/b1/00001.opus"}
    world.redis.rpush("queue:transcribe", json.dumps({**job, "opus_s3_key": "failed/b1/00001.wav"}))
    world.held(worker, "make room")
    wait_until(volume.is_clean, "scratch to be clean")
    volume.make_room()
    world.wait_for(worker, "clip done")
    assert world.query("SELECT original_filename, status FROM audio_files") == [(clip_name(0), "done")]
    assert world.redis.llen("queue:failed") == world.redis.hlen("queue:attempts") == 0
