"""Checks the sample clips with a real speech model: word error rate, language, detected speech, and broken files.

    python -m local.samples.check_samples --whisper DIR [--librivox DIR] [--words]

run in the repository's root.  ``--whisper`` is a CTranslate2 Whisper folder (the bounds are meant for the base
model), ``--librivox`` a folder filled by ``librivox.fetch_librivox``, ``--words`` shows what was heard.  Needs
``faster-whisper`` and ``av``.  Exits with status 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import re
import sys
import unicodedata
from pathlib import Path

import av
from faster_whisper import WhisperModel, decode_audio
from faster_whisper.vad import VadOptions, get_speech_timestamps

from local.samples.archive import CLIPS, SampleClip, load_manifest

RATE_HZ = 16_000  # the sample rate of Whisper's input
MAX_ENGLISH_WER = 0.10  # over all English words together
MAX_FALSE_SPEECH_S = 0.5  # speech that the detector may find in music or silence
SMALL_NUMBERS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
SPELLINGS = {  # spellings that count as correct
    "neighbour": "neighbor",
    "neighbours": "neighbors",
    "favourite": "favorite",
    "okay": "ok",
    "mr": "mister",
}


def words(text: str) -> list[str]:
    """Return ``text`` as words to compare: lower case, no punctuation, small numbers and spellings made alike."""
    text = unicodedata.normalize("NFC", text).lower().replace("’", "'").replace("o'clock", "oclock")
    text = text.replace("all right", "alright").replace(":00", " oclock").replace("%", " percent")
    text = re.sub(r"\b\d{1,2}\b", lambda m: SMALL_NUMBERS[int(m[0])] if int(m[0]) < len(SMALL_NUMBERS) else m[0], text)
    plain = re.findall(r"\w+", text.replace("'", ""))
    return [SPELLINGS.get(word, word) for word in plain]


def edits(said: list[str], heard: list[str]) -> int:
    """Return the least number of words to insert, drop or replace that turns ``said`` into ``heard``."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def _opens(path: Path) -> bool:
    """Return whether the file has audio that can be decoded to its end."""
    try:
        with av.open(str(path)) as container:
            return bool(sum(frame.samples for frame in container.decode(audio=0)))
    except (av.FFmpegError, IndexError):
        return False


def _check_speech(clip: SampleClip, path: Path, model: WhisperModel, show: bool) -> tuple[int, int, str]:
    """Return (edits, words said, complaint or "") of one spoken clip."""
    segments, info = model.transcribe(str(path), beam_size=5, condition_on_previous_text=False)
    heard = " ".join(segment.text.strip() for segment in segments)
    said = words(clip.text)
    wrong = edits(said, words(heard))
    print(f"  {wrong / len(said):5.3f}  {info.language} {info.language_probability:.2f}  {clip.file}")
    if show and wrong:
        print(f"         said   {clip.text}\n         heard  {heard}")
    complaint = "" if info.language == clip.language else f"{clip.file}: language detected as {info.language}"
    return wrong, len(said), complaint


def _check_silent(clip: SampleClip, path: Path) -> str:
    """Return an error message if the voice detector finds speech in a clip without speech."""
    spans = get_speech_timestamps(decode_audio(str(path), sampling_rate=RATE_HZ), VadOptions())
    found_s = sum(span["end"] - span["start"] for span in spans) / RATE_HZ
    print(f"  speech found: {found_s:.1f} s  {clip.file}")
    return "" if found_s <= MAX_FALSE_SPEECH_S else f"{clip.file}: {found_s:.1f} s taken for speech"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check the sample clips with a real speech model.")
    parser.add_argument("--whisper", type=Path, required=True, help="folder of a CTranslate2 Whisper model")
    parser.add_argument("--librivox", type=Path, help="folder with the fetched LibriVox files")
    parser.add_argument("--words", action="store_true", help="show what was said and heard where they differ")
    return parser.parse_args()


def main() -> int:
    """Check every clip and print the results. Return 1 if a limit is exceeded, else 0."""
    arguments = _arguments()
    model = WhisperModel(str(arguments.whisper), device="cpu", compute_type="int8")
    complaints: list[str] = []
    totals: dict[tuple[str, str], list[int]] = {}
    for clip in load_manifest():
        if clip.source == "librivox" and arguments.librivox is None:
            continue
        path = (CLIPS if clip.source == "samples" else arguments.librivox) / clip.file
        if _opens(path) != (clip.end != "failed"):
            complaints.append(f"{clip.file}: opens, or fails to open, against the manifest")
        if clip.end == "done":
            wrong, said, complaint = _check_speech(clip, path, model, arguments.words)
            total = totals.setdefault((clip.source, clip.language), [0, 0])
            total[0], total[1] = total[0] + wrong, total[1] + said
            complaints.append(complaint)
        elif clip.end == "no_speech":
            complaints.append(_check_silent(clip, path))
    for (source, language), (wrong, said) in totals.items():
        print(f"{source}, {language}: word error rate {wrong / said:.3f} over {said} words")
    english = [total for (_, language), total in totals.items() if language == "en"]
    if sum(t[0] for t in english) > MAX_ENGLISH_WER * sum(t[1] for t in english):
        complaints.append(f"the English word error rate is above {MAX_ENGLISH_WER}")
    complaints = [complaint for complaint in complaints if complaint]
    print("\n".join(complaints) or "all checks passed")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
