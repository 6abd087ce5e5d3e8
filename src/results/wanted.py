"""What "this clip is done" means: the results that are wanted of a clip, and whether it has them.

Wanted are a transcript by one speech model and, when it holds speech, a verdict for each policy, made as a GPU worker
with these settings makes it: by this version of the policy with this very text, by this model, prompt and threshold,
on the transcript or on its translation. Speech in a language that is not judged is recorded as such instead. A clip
has the results when they are those in force (see `verdicts_in_force` in `schema.sql`): after a policy went back to an
older version, that version's old verdict does not count until the clip was judged again.

The unpack worker skips the clips that have them, and the GPU worker acknowledges them without work. Counts and states
that people see ask for less: there a clip is done when it has results of any version (`HAS_RESULTS`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg2.extensions

from config import Settings
from models.manifest import load_manifest
from models.sets import thresholds
from moderation.judging import Judge, Judging
from moderation.policies import Policy, load_policies
from results.judged_text import OtherLanguages

# Of a row of audio_files: it has results, whichever models and policies they come from.
HAS_RESULTS = "status IN ('done', 'no_speech')"

# Of a transcript t with speech: what of it is to be judged, or null; the rule of `text_to_judge`. A translation that
# is null was never asked for; an empty one was.
TO_JUDGE = """CASE
    WHEN %(languages)s::text[] IS NULL OR t.language = ANY(%(languages)s::text[]) THEN 'transcript'
    WHEN %(translate)s AND t.translation IS DISTINCT FROM '' THEN 'translation' END"""

# Of a transcript t: it has the wanted verdicts, or is recorded as not judged because none is wanted. Verdicts that are
# not wanted for its language do no harm: an operator may have asked for them.
# A subquery that counts, since Postgres looks up the verdicts of one clip for it; EXISTS would read all verdicts.
IS_JUDGED = f"""({TO_JUDGE} IS NULL AND t.not_judged = 'language' OR t.not_judged IS NULL AND %(verdicts)s = (
    SELECT count(*) FROM verdicts_in_force v
    WHERE v.audio_id = t.audio_id AND v.transcript_id = t.transcript_id AND v.judged = coalesce({TO_JUDGE}, v.judged)
      AND (v.policy, v.policy_version, v.policy_sha256, v.model, v.prompt_version, v.threshold) IN (
          SELECT * FROM unnest(%(policies)s::text[], %(versions)s::text[], %(sha256s)s::text[],
                               %(models)s::text[], %(prompts)s::text[], %(thresholds)s::float8[]))))
"""  # noqa: S608 -- constants

# The status tells the result of the clip's last run. A transcript with another result is of an earlier run.
_HAVING_WANTED = f"""
    SELECT a.original_filename
    FROM audio_files a JOIN transcripts t ON t.audio_id = a.audio_id AND t.model = %(speech_model)s
    WHERE a.s3_opus_path IS NOT NULL AND CASE a.status
        WHEN 'no_speech' THEN t.no_speech
        WHEN 'done' THEN NOT t.no_speech AND {IS_JUDGED}
        ELSE false
    END
"""  # noqa: S608 -- constants


class WantedVerdict(NamedTuple):
    """All that two verdicts on one text must have in common for the one to be as good as the other."""

    policy: str
    policy_version: str
    policy_sha256: str
    model: str
    prompt_version: str
    threshold: float


@dataclass(frozen=True)
class WantedResults:
    """The results that workers write with one set of models and policies."""

    speech_model: str
    verdicts: tuple[WantedVerdict, ...] = ()  # each policy once
    languages: frozenset[str] | None = None  # those that are judged; None: all
    other_languages: OtherLanguages = "record"

    @classmethod
    def of(cls, speech_model: str, judge: Judge, policies: Iterable[Policy], settings: Settings) -> WantedResults:
        """What a GPU worker with this speech model and this judge writes."""
        return cls(
            speech_model,
            tuple(
                WantedVerdict(
                    policy.id, policy.version, policy.sha256, judge.name, judge.prompt_version, judge.threshold(policy)
                )
                for policy in policies
            ),
            settings.judged_language_codes,
            settings.other_languages,
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """For the queries of this file."""
        columns = [list(column) for column in zip(*self.verdicts, strict=True)] or [[]] * len(WantedVerdict._fields)
        names = ("policies", "versions", "sha256s", "models", "prompts", "thresholds")
        return {
            "speech_model": self.speech_model,
            "verdicts": len(self.verdicts),
            "languages": None if self.languages is None else sorted(self.languages),
            "translate": self.other_languages == "translate",
            **dict(zip(names, columns, strict=True)),
        }


def judging(settings: Settings) -> Judging:
    """How MODEL_SET's moderation model judges. Reads the manifest and the adapter's thresholds, loads no model.

    On a host without the models, only thresholds that come with the release are known.

    Raises
    ------
    ModelError
        The manifest is malformed, or does not know MODEL_SET, or the thresholds are malformed.
    """
    model = load_manifest(settings.models_root).set(settings.model_set).moderation
    return Judging(model.name, model.format, model.reads, thresholds(model, settings.models_root / settings.model_set))


def wanted_results(settings: Settings) -> WantedResults:
    """What a GPU worker with these settings writes. Reads the policies and the manifest of models, loads no model.

    Raises
    ------
    PolicyError
        POLICIES_DIR is missing, or a policy is malformed.
    ModelError
        As `judging`.
    """
    speech = load_manifest(settings.models_root).set(settings.model_set).speech
    return WantedResults.of(speech.name, judging(settings), load_policies(settings.policies_dir), settings)


def clips_with(cursor: psycopg2.extensions.cursor, batch_id: str, wanted: WantedResults) -> set[str]:
    """Names of the batch's clips that have all wanted results."""
    cursor.execute(f"{_HAVING_WANTED} AND a.batch_id = %(batch_id)s", {"batch_id": batch_id, **wanted.parameters})
    return {name for (name,) in cursor.fetchall()}


def clip_has(cursor: psycopg2.extensions.cursor, audio_id: int, wanted: WantedResults) -> bool:
    """Whether the clip has all wanted results."""
    cursor.execute(f"{_HAVING_WANTED} AND a.audio_id = %(audio_id)s", {"audio_id": audio_id, **wanted.parameters})
    return cursor.fetchone() is not None
