"""Browsers cache static files for a year. The URL carries a fingerprint, so a changed file has a new URL."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Flask


def fingerprint_static(app: Flask) -> None:
    folder = Path(app.static_folder or "")

    @lru_cache(maxsize=128)
    def fingerprint(name: str, _mtime: float) -> str:
        return hashlib.sha256((folder / name).read_bytes()).hexdigest()[:12]

    @app.url_defaults
    def add_fingerprint(endpoint: str, values: dict[str, Any]) -> None:
        path = folder / str(values.get("filename", ""))
        if endpoint == "static" and path.is_file():
            values.setdefault("v", fingerprint(str(values["filename"]), path.stat().st_mtime))
