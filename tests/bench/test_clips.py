"""The clips of the benchmarks: fetched by their hashes, made by their recipes, and of the kinds that are wanted."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tomllib
import wave
from pathlib import Path

import numpy as np
import pytest

from bench import clips as bench_clips
from bench import effects
from bench.clips import MANIFEST, UNTIMED, WITHOUT_SPEECH, chosen, digest, load_clips, summary
from bench.effects import RATE_HZ, Signal
from bench.packages import DataError
from bench.report import as_text

TONE_S = 2.0
VERSION = "1.0-1"
# Offers the packages of a folder, and keeps a record. The real one asks the network.
APT_GET = """#!/bin/sh
echo "$@" >> {folder}/asked
name=${{4:-$3}}
case "$name" in *=*) wanted=${{name#*=}} ;; *) wanted='*' ;; esac
found=$(ls {folder}/${{name%%=*}}_$wanted.deb 2>/dev/null)
[ -n "$found" ] || {{ echo "E: Version of $name was not found" >&2; exit 100; }}
cp "$found" .
"""


def tone(hertz: float, seconds: float = TONE_S) -> Signal:
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return np.asarray(0.3 * np.sin(2 * np.pi * hertz * time), dtype=np.float32)


def write_wav(path: Path, signal: Signal) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.round(signal * 32767).astype("<i2").tobytes())
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Shop:
    """A package with two recordings, a program that offers it, and a manifest that names one of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "offered"
        self.manifest, self.cache = root / "clips.toml", root / "cache"
        self.folder.mkdir()
        self.programs = root / "programs"
        self.programs.mkdir()
        apt_get = self.programs / "apt-get"
        apt_get.write_text(APT_GET.format(folder=self.folder))
        apt_get.chmod(0o755)
        self.sha256 = self.offer(VERSION, 440.0)
        self.write(self.sha256)

    def offer(self, version: str, hertz: float) -> str:
        tree = self.root / f"tree-{version}"
        sha256 = write_wav(tree / "usr/share/voice.wav", tone(hertz))
        write_wav(tree / "usr/share/not-named.wav", tone(100.0))
        control = f"Package: voices\nVersion: {version}\nArchitecture: all\nMaintainer: nobody\nDescription: voices\n"
        (tree / "DEBIAN").mkdir()
        (tree / "DEBIAN/control").write_text(control)
        target = self.folder / f"voices_{version}.deb"
        subprocess.run(["dpkg-deb", "--build", "-Znone", tree, target], check=True, capture_output=True)
        return sha256

    def write(self, sha256: str) -> None:
        self.manifest.write_text(
            f'[[package]]\nname = "voices"\nversion = "{VERSION}"\nlanguage = "en"\n[[package.part]]\nid = "hello"\n'
            f'path = "usr/share/voice.wav"\nsha256 = "{sha256}"\ntext = "hello there"\n'
            '[[clip]]\nname = "once"\nkind = "plain"\nparts = ["hello"]\n'
            '[[clip]]\nname = "thrice"\nkind = "repeated"\nparts = ["hello"]\ntimes = 3\ngap_s = 0.5\n'
            '[[clip]]\nname = "quick"\nkind = "fast"\nparts = ["hello"]\ntempo = 1.5\n'
            '[[clip]]\nname = "hush"\nkind = "silence"\nseconds = 4\nnoise_db = -50\n'
        )

    def asked(self) -> list[str]:
        record = self.folder / "asked"
        return record.read_text().splitlines() if record.exists() else []


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(tmp_path)
    monkeypatch.setenv("PATH", f"{made.programs}:{os.environ['PATH']}")
    return made


def test_named_files_are_fetched_once_and_nothing_else(shop):
    first = load_clips(manifest=shop.manifest, folder=shop.cache)
    again = load_clips(manifest=shop.manifest, folder=shop.cache)
    assert [path.name for path in shop.cache.rglob("*.*")] == ["voice.wav"]
    assert shop.asked() == [f"download -q voices={VERSION}"]
    assert digest(first) == digest(again)


def test_a_clip_is_made_by_its_recipe(shop):
    clips = {clip.name: clip for clip in load_clips(manifest=shop.manifest, folder=shop.cache)}
    lengths = {name: round(clip.duration_s, 1) for name, clip in clips.items()}
    assert lengths == {"once": 2.7, "thrice": 8.0, "quick": 1.8, "hush": 4.0}
    assert clips["thrice"].text == "hello there hello there hello there"
    assert clips["thrice"].language == "en"
    assert not clips["hush"].spoken
    assert effects.rms(clips["hush"].samples) == pytest.approx(10 ** (-50 / 20), rel=0.2)


def test_another_version_serves_if_its_files_are_the_same(shop):
    (shop.folder / f"voices_{VERSION}.deb").unlink()
    shop.offer("2.0-1", 440.0)
    assert load_clips(manifest=shop.manifest, folder=shop.cache, names={"once"})
    assert shop.asked() == [f"download -q voices={VERSION}", "download -q voices"]


def test_another_version_with_other_files_is_refused_by_name(shop):
    (shop.folder / f"voices_{VERSION}.deb").unlink()
    shop.offer("2.0-1", 880.0)
    with pytest.raises(DataError, match=rf"voices \(version 2\.0-1 instead of {VERSION}\) has another file"):
        load_clips(manifest=shop.manifest, folder=shop.cache)


def test_a_package_that_is_not_offered_is_named_with_the_reason(shop):
    (shop.folder / f"voices_{VERSION}.deb").unlink()
    with pytest.raises(DataError, match=r"voices 1\.0-1 cannot be downloaded: E: Version of voices was not found"):
        load_clips(manifest=shop.manifest, folder=shop.cache)


def test_a_part_that_no_package_lists_is_named_with_its_clip(shop):
    shop.manifest.write_text(shop.manifest.read_text().replace('parts = ["hello"]\ntimes', 'parts = ["bye"]\ntimes'))
    with pytest.raises(DataError, match="the clip thrice names the part 'bye'"):
        load_clips(manifest=shop.manifest, folder=shop.cache)


def test_the_table_of_clips_has_a_row_per_kind(shop):
    lines = as_text(summary(load_clips(manifest=shop.manifest, folder=shop.cache))).splitlines()
    assert [line.split("|")[1].strip() for line in lines[4:]] == ["plain", "repeated", "fast", "silence"]
    assert len({len(line) for line in lines[2:]}) == 1


def test_the_clips_are_of_the_kinds_and_numbers_that_are_wanted():
    recipes = tomllib.loads(MANIFEST.read_text())["clip"]
    timed = [recipe for recipe in recipes if recipe["kind"] not in UNTIMED]
    silent = [recipe for recipe in timed if recipe["kind"] in WITHOUT_SPEECH]
    assert len(timed) >= 60
    assert len(silent) / len(timed) == pytest.approx(0.2, abs=0.01)
    assert sum(recipe["kind"] == "recording" for recipe in recipes) >= 38
    spoken = {recipe["parts"][0].split("/")[0] for recipe in timed if recipe["kind"] == "plain"}
    assert spoken >= {"en", "es", "fr", "it", "ru", "nl"}


def test_every_part_and_recipe_of_the_manifest_is_known():
    content = tomllib.loads(MANIFEST.read_text())
    known = set(bench_clips._parts(content, Path("nowhere")))
    named = {part for recipe in content["clip"] for part in bench_clips._named(recipe)}
    assert named <= known
    listed = {part["id"] for package in content["package"] for part in package["part"]}
    assert listed <= named


def test_the_same_few_clips_are_chosen_each_time(shop):
    clips = load_clips(manifest=shop.manifest, folder=shop.cache)
    assert [clip.name for clip in chosen(clips, 2)] == [clip.name for clip in chosen(clips[::-1], 2)]


@pytest.mark.parametrize(("effect", "hertz"), [(effects.tempo, 440), (effects.resampled, 660)])
def test_faster_speech_is_shorter_and_keeps_its_pitch_only_with_tempo(effect, hertz):
    quick = effect(tone(440.0, 3.0), 1.5)
    assert len(quick) / RATE_HZ == pytest.approx(2.0, abs=0.1)
    spectrum = np.abs(np.fft.rfft(quick))
    assert np.argmax(spectrum) * RATE_HZ / len(quick) == pytest.approx(hertz, abs=5)


def level(signal: Signal, hertz: float) -> float:
    """How strong one tone is in a signal."""
    return float(np.abs(np.fft.rfft(signal))[round(hertz * len(signal) / RATE_HZ)])


def test_a_telephone_drops_what_is_above_its_band():
    line = effects.telephone(tone(1000.0) + tone(2100.0) + tone(6000.0))
    assert level(line, 2100.0) > 0.7 * level(line, 1000.0)
    assert level(line, 6000.0) < 0.03 * level(line, 1000.0)


def test_a_whisper_has_no_pitch():
    voiced, breathed = (np.abs(np.fft.rfft(item)) for item in (tone(200.0), effects.whispered(tone(200.0), "x")))
    assert voiced.max() / voiced.mean() > 20 * breathed.max() / breathed.mean()


def test_music_lies_as_far_below_speech_as_asked():
    speech, music = tone(300.0), tone(1000.0)
    both = effects.mixed(speech, music, 6.0)
    assert level(both, 300.0) / level(both, 1000.0) == pytest.approx(10 ** (6 / 20), rel=0.1)
