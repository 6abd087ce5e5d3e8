"""`python -m models ...`, run in `src/`, does the same as `audio-pipeline models ...`."""

from __future__ import annotations

import sys

from cli import main

sys.argv[1:1] = ["models"]
main()
