"""Scores that texts have had before. The same sounds and phrases are uploaded again and again."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2.extensions

from moderation.policies import Policy
from moderation.scorer import Score
from results.judged_text import text_sha256

# For each text and policy, the newest verdict. The index finds it, or that there is none, without reading the others: a
# text that everybody uploads may have a hundred thousand. Only then is compared what the hash of the index stands for,
# and the text that the verdict is about as it stands now: a release that does not know the hashes may have judged the
# clip since, and left the old hash in the row.
_KNOWN = """
    SELECT wanted.policy, wanted.text, newest.score, newest.mass, newest.truncated
    FROM (SELECT policy, text FROM unnest(%(policies)s::text[]) policy, unnest(%(texts)s::text[]) text) wanted
    CROSS JOIN LATERAL (
        SELECT * FROM classifications c
        WHERE c.text_sha256 IS NOT NULL
          AND hashtextextended(c.text_sha256 || c.policy_sha256 || c.model || c.prompt_version, 0)
              = hashtextextended(wanted.text || wanted.policy || %(model)s || %(prompt_version)s, 0)
        ORDER BY c.created_at DESC
        LIMIT 1) newest
    JOIN transcripts t USING (transcript_id)
    WHERE (newest.text_sha256, newest.policy_sha256, newest.model, newest.prompt_version)
          = (wanted.text, wanted.policy, %(model)s, %(prompt_version)s)
      AND wanted.text = encode(sha256(convert_to(
        CASE newest.judged WHEN 'translation' THEN t.translation ELSE t.text END, 'UTF8')), 'hex')
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
