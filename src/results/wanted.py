"""What "this clip is done" means: the results that are wanted of a clip, and whether it has them.

Wanted are a transcript by one speech model and, when it holds speech, a verdict of one policy version and one model
for each policy. A clip has them when they are its results in force (see `verdicts_in_force` in `schema.sql`): after
a policy went back to an older version, that version's old verdict does not count until the clip was judged again.

The unpack worker skips the clips that have them, and the GPU worker acknowledges them without work. Counts and states
that people see ask for less: there a clip is done when it has results of any version (`HAS_RESULTS`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg2.extensions

from config import Settings
from models.manifest import load_manifest
from moderation.policies import Policy, load_policies

# Of a row of audio_files: it has results, whichever models and policies they come from.
HAS_RESULTS = "status IN ('done', 'no_speech')"

# The status tells the result of the clip's last run. A transcript with another result is of an earlier run.
# A subquery that counts, since Postgres looks up the verdicts of one clip for it; EXISTS would read all verdicts.
_HAVING_WANTED = """
    SELECT a.original_filename
    FROM audio_files a JOIN transcripts t ON t.audio_id = a.audio_id AND t.model = %(speech_model)s
    WHERE a.s3_opus_path IS NOT NULL AND CASE a.status
        WHEN 'no_speech' THEN t.no_speech
        WHEN 'done' THEN NOT t.no_speech AND %(verdicts)s = (
            SELECT count(*) FROM verdicts_in_force v
            WHERE v.audio_id = a.audio_id AND v.transcript_id = t.transcript_id
              AND (v.policy, v.policy_version, v.model) IN (
                  SELECT * FROM unnest(%(policies)s::text[], %(versions)s::text[], %(models)s::text[])))
        ELSE false
    END
"""


@dataclass(frozen=True)
class WantedResults:
    """The results that workers write with one set of models and policies."""

    speech_model: str
    verdicts: tuple[tuple[str, str, str], ...] = ()  # (policy, version, model); each policy once

    @classmethod
    def of(cls, speech_model: str, moderation_model: str, policies: Iterable[Policy]) -> WantedResults:
        return cls(speech_model, tuple((policy.id, policy.version, moderation_model) for policy in policies))


def wanted_results(settings: Settings) -> WantedResults:
    """What a GPU worker with these settings writes. Reads the policies and the manifest of models, loads no model.

    Raises
    ------
    PolicyError
        POLICIES_DIR is missing, or a policy is malformed.
    ModelError
        The manifest is malformed, or does not know MODEL_SET.
    """
    chosen = load_manifest(settings.models_root).set(settings.model_set)
    return WantedResults.of(chosen.speech.name, chosen.moderation.name, load_policies(settings.policies_dir))


def clips_with(cursor: psycopg2.extensions.cursor, batch_id: str, wanted: WantedResults) -> set[str]:
    """Names of the batch's clips that have all wanted results."""
    cursor.execute(f"{_HAVING_WANTED} AND a.batch_id = %(batch_id)s", {"batch_id": batch_id, **_values(wanted)})
    return {name for (name,) in cursor.fetchall()}


def clip_has(cursor: psycopg2.extensions.cursor, audio_id: int, wanted: WantedResults) -> bool:
    """Whether the clip has all wanted results."""
    cursor.execute(f"{_HAVING_WANTED} AND a.audio_id = %(audio_id)s", {"audio_id": audio_id, **_values(wanted)})
    return cursor.fetchone() is not None


def _values(wanted: WantedResults) -> dict[str, Any]:
    policies, versions, models = zip(*wanted.verdicts, strict=True) if wanted.verdicts else ((), (), ())
    return {
        "speech_model": wanted.speech_model,
        "verdicts": len(wanted.verdicts),
        "policies": list(policies),
        "versions": list(versions),
        "models": list(models),
    }
