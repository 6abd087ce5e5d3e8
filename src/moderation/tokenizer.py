"""The tokenizer of a moderation model on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_tokenizer(folder: Path) -> Any:
    """Read the tokenizer; raises ImportError on a host without transformers."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    # transformers 4.57 warns of a wrong Mistral tokenizer when it reads any tokenizer from a directory. Its variable
    # TRANSFORMERS_VERBOSITY has no effect here: other libraries have imported it before.
    logging.set_verbosity_error()
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
