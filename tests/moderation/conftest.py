"""The tiny model of `tiny_model`, and the tokenizer of the demo's model, which is Gemma's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.moderation.tiny_model import TinyModel, build_adapter, build_base


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    folder = tmp_path_factory.mktemp("tiny-gemma")
    model = TinyModel(folder / "base", folder / "adapter")
    build_base(model.base)
    build_adapter(model.base, folder / "adapter")
    return model


@pytest.fixture(scope="module")
def gemma(models_root: Path) -> Any:
    """Gemma's tokenizer. Reading it takes seconds; the tests of one module may give it one chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(models_root / "demo/gemma-3-270m")
