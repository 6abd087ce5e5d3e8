"""Make `import torchaudio` work beside a CPU build of torch.

The Linux wheels of torchaudio contain a native library that is built for CUDA. It does not load with a CPU build of
torch, and then `import torchaudio` fails. Without the file torchaudio uses only its Python code, which is enough for
whisperx. So this program removes the library if it does not load.
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
        sys.exit("torchaudio is not installed. Run `make env` again.")
    for library in (Path(spec.origin).parent / "lib").glob("*torchaudio*.so"):
        print(f"==> removed {library.name}: it does not load with this build of torch and is not needed")
        library.unlink()
    if not imports():
        sys.exit("torchaudio cannot be imported, also without its native library. See `python -c 'import torchaudio'`.")


def imports() -> bool:
    # In a new process: a process cannot load a library again after a failed attempt.
    return subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    main()
