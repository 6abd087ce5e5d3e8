"""Models from a hub: pinned commits, gated repositories, resumed downloads, and errors when the hub does not answer."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from errors import ModelError
from models.sets import resolve
from tests.models.hub_server import COMMIT, HubServer
from tests.models.workshop import CONFIG, WEIGHTS, Workshop, digest

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


def by_hand(folder: Path, judge: dict[str, bytes]) -> None:
    """Put the files of both parts into a folder of the set."""
    for part, files in {"speech": {"model.bin": WEIGHTS}, "judge": judge}.items():
        (folder / part).mkdir(parents=True)
        for name, data in files.items():
            (folder / part / name).write_bytes(data)


def test_a_set_is_downloaded_from_the_hub_at_its_commit(workshop: Workshop, hub: HubServer) -> None:
    hub_manifest(workshop)
    done = workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good")
    assert done.returncode == 0, done.stderr
    folder = resolve("own", workshop.root).moderation.base
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors.index.json", *SHARDS, ".verified"}
    assert json.loads((folder / ".verified").read_text())["origin"] == f"lab/judge@{COMMIT}"


def test_a_branch_is_not_fetched_and_the_way_to_pin_it_is_named(workshop: Workshop, hub: HubServer) -> None:
    hub_manifest(workshop, "main")
    done = workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good")
    assert done.returncode == 1
    assert "speech is not pinned: lab/speech at main can change" in done.stderr
    assert "python -m models pin own" in done.stderr
    assert hub.sent_bytes == 0


@pytest.mark.thorough
def test_an_unpinned_part_is_not_taken_from_a_folder_either(workshop: Workshop, tmp_path: Path) -> None:
    hub_manifest(workshop, "main")
    done = workshop.run("fetch", "own", "--from", str(tmp_path))
    assert "speech is not pinned" in done.stderr


def test_pin_prints_the_commit_and_hashes_of_a_branch(workshop: Workshop, hub: HubServer) -> None:
    hub_manifest(workshop, "main")
    done = workshop.run("pin", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good")
    assert done.returncode == 0, done.stderr
    printed = tomllib.loads(done.stdout)["parts"]
    assert printed["speech"] == {"hub": {"revision": COMMIT}, "sha256": {"model.bin": digest(WEIGHTS)}}
    assert printed["judge"]["hub"] == {"revision": COMMIT}
    assert printed["judge"]["sha256"].items() >= {name: digest(data) for name, data in SHARDS.items()}.items()
    assert "README.md" not in printed["judge"]["sha256"]
    assert hub.sent_bytes < 10_000  # descriptions only


@pytest.mark.thorough
def test_pin_of_a_pinned_set_says_so(workshop: Workshop, hub: HubServer) -> None:
    hub_manifest(workshop)
    assert workshop.run("pin", "own", HF_ENDPOINT=hub.url).stdout == "# every part of own is pinned\n"


def test_a_hub_that_answers_with_another_commit_is_refused(workshop: Workshop, hub: HubServer) -> None:
    hub_manifest(workshop, "f" * 40)
    hub.answers_any_revision = True
    done = workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good")
    assert done.returncode == 1
    assert f"{'f' * 40} was requested, but the hub returned {COMMIT}" in done.stderr
    assert hub.sent_bytes < 10_000  # descriptions only


@pytest.mark.parametrize("token", [{}, pytest.param({"HF_TOKEN": "hf_wrong"}, marks=pytest.mark.thorough)])
def test_a_gated_repository_without_the_right_token_says_how_to_get_one(
    workshop: Workshop, hub: HubServer, token: dict[str, str]
) -> None:
    hub_manifest(workshop)
    done = workshop.run("fetch", "own", HF_ENDPOINT=hub.url, **token)
    assert done.returncode == 1
    assert "lab/judge refuses access: accept its terms" in done.stderr
    assert "HF_TOKEN=hf_..." in done.stderr
    if not token:
        assert hub.sent_bytes == 0  # nothing large before the question is settled


def test_gated_models_brought_by_hand_need_no_token(workshop: Workshop) -> None:
    hub_manifest(workshop)
    by_hand(workshop.root / "own", REPO)
    assert "judge: 5 files are not pinned and are recorded without a check" in workshop.bring(None)
    resolve("own", workshop.root)


@pytest.mark.thorough
def test_a_file_that_differs_from_what_the_hub_states_is_refused(workshop: Workshop, hub: HubServer) -> None:
    hub_manifest(workshop)
    hub.stated["model-2.safetensors"] = "1" * 64
    done = workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good")
    assert f"model-2.safetensors of judge has the wrong content: expected SHA-256 {'1' * 64}" in done.stderr


def test_a_download_that_breaks_off_goes_on_where_it_stopped(workshop: Workshop, hub: HubServer) -> None:
    large = os.urandom(1 << 20) * 24  # the hub's client writes pieces of 10 MB
    hub.repos["lab/speech"]["model.bin"] = large
    hub_manifest(workshop)
    file = workshop.root / "models.toml"
    file.write_text(file.read_text().replace(digest(WEIGHTS), digest(large)))
    hub.cut_after = 13 << 20
    fetches = (workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good").returncode for _ in range(3))
    assert 0 in fetches  # no further one is begun after the first that succeeds
    assert (workshop.root / "own" / "speech" / "model.bin").read_bytes() == large
    assert hub.sent_bytes < 1.5 * len(large)


def test_a_repository_that_lacks_a_shard_is_not_whole(workshop: Workshop, tmp_path: Path) -> None:
    hub_manifest(workshop)
    by_hand(tmp_path / "brought", {name: data for name, data in REPO.items() if name != "model-2.safetensors"})
    with pytest.raises(ModelError, match=r"judge is incomplete: model-2\.safetensors is missing"):
        workshop.bring(tmp_path / "brought")
    with pytest.raises(ModelError, match="judge is missing"):
        resolve("own", workshop.root)


def test_without_network_the_way_out_is_named(workshop: Workshop) -> None:
    hub_manifest(workshop)
    done = workshop.run("fetch", "own", HF_ENDPOINT="http://127.0.0.1:1", HF_TOKEN="hf_good")
    assert done.returncode == 1
    assert "lab/speech cannot be downloaded (no connection): check the network" in done.stderr
    assert "--from DIR" in done.stderr


def test_an_adapter_brings_its_own_thresholds(workshop: Workshop, tmp_path: Path) -> None:
    own = {"adapter_config.json": b"{}", "thresholds.json": b'{"hate-speech@1.0.0": 0.6, "scams@2.1.0": 0.7}'}
    by_hand(tmp_path / "brought", REPO | own)
    hub_manifest(workshop)
    file = workshop.root / "models.toml"
    file.write_text(file.read_text().replace('base = "judge"', 'base = "speech"\nadapter = "judge"'))
    workshop.bring(tmp_path / "brought")
    moderation = resolve("own", workshop.root).moderation
    assert moderation.thresholds == {"hate-speech@1.0.0": 0.6, "scams@2.1.0": 0.7}
    assert moderation.adapter is not None
    (moderation.adapter / "thresholds.json").write_text('{"hate-speech@1.0.0": 0.6, "scams@2.1.0": 1.7}')
    with pytest.raises(ModelError, match=r"thresholds\.json"):
        resolve("own", workshop.root)


@pytest.mark.parametrize(
    ("revision", "repo", "sentence"),
    [("f" * 40, "lab/speech", "has no revision"), (COMMIT, "lab/nothing", "refuses access")],
)
@pytest.mark.thorough
def test_a_wrong_address_is_reported(
    workshop: Workshop, hub: HubServer, revision: str, repo: str, sentence: str
) -> None:
    hub_manifest(workshop, revision)
    file = workshop.root / "models.toml"
    file.write_text(file.read_text().replace("lab/speech", repo))
    assert sentence in workshop.run("fetch", "own", HF_ENDPOINT=hub.url, HF_TOKEN="hf_good").stderr
