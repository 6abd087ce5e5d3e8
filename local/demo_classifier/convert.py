"""Turn a quantized GGUF file of a small language model into a folder that loads in seconds.

Reading GGUF de-quantizes every tensor and takes half a minute; the folder written here (safetensors, tokenizer,
configuration) loads in about three seconds, so it is made once.

    python -m local.demo_classifier.convert GGUF_FILE OUT_DIR
"""

import argparse
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from local.demo_classifier.gemma_tokenizer import is_misread, rebuild

DONE_FILE = "model.safetensors"  # present only in a folder that was written completely
QUANTIZER_ATTRIBUTES = (
    "hf_quantizer",
    "quantization_method",
    "is_quantized",
    "is_loaded_in_4bit",
    "is_loaded_in_8bit",
)


def read_once() -> None:
    """Let transformers share one reader of the file.

    It opens the file for the configuration, the tokenizer and the model, four times in all, and each time its whole
    vocabulary is read, which takes most of the time.
    """
    if not hasattr(gguf.GGUFReader, "cache_info"):
        gguf.GGUFReader = lru_cache(maxsize=1)(gguf.GGUFReader)


def forget_quantizer(model: PreTrainedModel) -> None:
    """Remove what marks the model as quantized: its tensors no longer are, and saving would refuse otherwise."""
    for name in QUANTIZER_ATTRIBUTES:
        if name in vars(model):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def load_tokenizer(source: str, name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a GGUF file, Gemma's with its merges."""
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    described = tokenizer.backend_tokenizer.to_str()
    if is_misread(described):
        tokenizer = type(tokenizer)(
            tokenizer_object=rebuild(described),
            bos_token=tokenizer.bos_token,
            eos_token=tokenizer.eos_token,
            pad_token=tokenizer.pad_token,
            unk_token="<unk>",  # noqa: S106 -- a token of text
        )
    return tokenizer


def check_answers(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError unless "0" and "1" are two single tokens: verdicts compare exactly these."""
    ids = [tokenizer.encode(answer, add_special_tokens=False) for answer in ("0", "1")]
    if any(len(token_ids) != 1 for token_ids in ids) or ids[0] == ids[1]:
        raise ValueError(f'the tokenizer has no single tokens for "0" and "1": {ids}')


def gguf_to_safetensors(gguf_path: Path, out_dir: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write the model and tokenizer of `gguf_path` to `out_dir` and return it; an existing folder is reused.

    The folder appears under its name only when complete, so an interrupted run leaves nothing half-written behind.
    bf16 loses nothing that matters after 4-bit quantization and halves the size on disk and in memory.
    Raises FileNotFoundError if the file is missing, ValueError if the tokenizer cannot answer 0 or 1.
    """
    if (out_dir / DONE_FILE).is_file():
        return out_dir
    if not gguf_path.is_file():
        raise FileNotFoundError(f"no GGUF file at {gguf_path}")
    source, name = str(gguf_path.parent), gguf_path.name
    read_once()
    tokenizer = load_tokenizer(source, name)
    check_answers(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
    forget_quantizer(model)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=out_dir.name) as scratch:
        unfinished = Path(scratch) / "model"
        model.to(dtype).save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        shutil.rmtree(out_dir, ignore_errors=True)
        unfinished.rename(out_dir)
    return out_dir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path, help="the GGUF file")
    parser.add_argument("out", type=Path, help="folder to write, for example models/demo/gemma-3-270m")
    args = parser.parse_args()
    print(gguf_to_safetensors(args.gguf, args.out))


if __name__ == "__main__":
    main()
