"""Scores that texts have had before. The same sounds and phrases are uploaded again and again."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2.extensions

from moderation.policies import Policy
from moderation.scorer import Score
from results.judged_text import text_sha256

# For each text and policy, the newest verdict: the index gives it without reading the others, and a text that everybody
# uploads may have a hundred thousand. The text that a verdict is about is compared by its hash as it stands now: a
# release that does not know the hashes may have judged the clip since, and left the old hash in the row.
_KNOWN = """
    SELECT wanted.policy, wanted.text, found.score, found.mass, found.truncated
    FROM (SELECT policy, text FROM unnest(%(policies)s::text[]) policy, unnest(%(texts)s::text[]) text) wanted
    CROSS JOIN LATERAL (
        SELECT c.score, c.mass, c.truncated
        FROM classifications c JOIN transcripts t USING (transcript_id)
        WHERE c.text_sha256 = wanted.text AND c.policy_sha256 = wanted.policy
          AND c.model = %(model)s AND c.prompt_version = %(prompt_version)s
          AND c.text_sha256 = encode(sha256(convert_to(
                CASE c.judged WHEN 'translation' THEN t.translation ELSE t.text END, 'UTF8')), 'hex')
        ORDER BY c.created_at DESC
        LIMIT 1) found
"""


def find(
    cursor: psycopg2.extensions.cursor,
    policies: Sequence[Policy],
    texts: Sequence[str],
    model: str,
    prompt_version: str,
) -> dict[tuple[str, str], Score]:
    """(policy id, text) -> the newest score by this policy text, model and prompt, for those that have one."""
    hashes = {text: text_sha256(text) for text in texts}
    cursor.execute(
        _KNOWN,
        {
            "texts": list(set(hashes.values())),
            "policies": list({policy.sha256 for policy in policies}),
            "model": model,
            "prompt_version": prompt_version,
        },
    )
    scores = {(policy, text): Score(*values) for policy, text, *values in cursor.fetchall()}
    return {
        (policy.id, text): scores[policy.sha256, digest]
        for policy in policies
        for text, digest in hashes.items()
        if (policy.sha256, digest) in scores
    }
