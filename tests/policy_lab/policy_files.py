"""Small policy files for tests."""

from __future__ import annotations

from pathlib import Path

TEXT = """\
+++
id = "{id}"
version = "{version}"
title = "A policy"
threshold = {threshold}
+++

## Overview

{overview}

## Definitions of terms

- **Term of {id}**: what {id} means by it.

## Interpretation of language

Judge the whole clip of {id}.

## Definitions of labels

### Label ({code})

Includes:

- What {id} covers.

Excludes:

- What {id} leaves out.
"""


def write_policy(folder: Path, id_: str, overview: str, *, version: str = "1.0.0", threshold: float = 0.5) -> Path:
    """Write `{id}.md` -> its path. The `ScriptedScorer` scores by the words of the overview."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{id_}.md"
    path.write_text(TEXT.format(id=id_, version=version, threshold=threshold, overview=overview, code=id_.upper()))
    return path
