"""Make `import torchaudio` work beside a CPU build of torch.

The published Linux wheels of torchaudio carry a native library built for CUDA; it cannot load beside a CPU torch, and
a library built for another torch cannot either. torchaudio runs its Python part, all that whisperx needs, when the file
is absent; so take it away where it does not load, and leave it where it does.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path


def main() -> None:
    if imports():
        return
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        sys.exit("torchaudio is not installed: run `make env` again")
    for library in (Path(spec.origin).parent / "lib").glob("*torchaudio*.so"):
        print(f"==> {library.name} does not load beside this torch and is not needed: removed")
        library.unlink()
    if not imports():
        sys.exit("torchaudio cannot be imported even without its native library: see `python -c 'import torchaudio'`")


def imports() -> bool:
    # In a process of its own: a library that failed to load once cannot be tried again in the same process.
    return subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    main()
