"""The pipeline's tables and views, as far as the app reads them. Without a MetaData, so migrations do not see them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

# Its partial index on (audio_id) WHERE violates is how flagged clips are found without reading the whole queue.
classifications = sa.table("classifications", sa.column("audio_id", sa.BigInteger), sa.column("violates", sa.Boolean))
audio_files = sa.table(
    "audio_files",
    sa.column("audio_id", sa.BigInteger),
    sa.column("batch_id", sa.Text),
    sa.column("original_filename", sa.Text),
    sa.column("s3_opus_path", sa.Text),
    sa.column("duration_s", sa.Float),
    sa.column("processed_at", sa.DateTime(timezone=True)),
    sa.column("platform_metadata", pg.JSONB),
    sa.column("peaks", sa.LargeBinary),
    sa.column("loudness_lufs", sa.Float),
    sa.column("peak_dbfs", sa.Float),
)
transcripts = sa.table(
    "transcripts",
    sa.column("transcript_id", sa.BigInteger),
    sa.column("audio_id", sa.BigInteger),
    sa.column("text", sa.Text),
    sa.column("language", sa.Text),
    sa.column("segments", pg.JSONB),
    sa.column("finding", sa.Text),
    sa.column("reasons", pg.ARRAY(sa.Text)),
    sa.column("words", pg.JSONB),
    sa.column("windows", pg.JSONB),
    sa.column("translation", sa.Text),
    sa.column("not_judged", sa.Text),
    sa.column("created_at", sa.DateTime(timezone=True)),
)
verdicts_in_force = sa.table(
    "verdicts_in_force",
    sa.column("classification_id", sa.BigInteger),
    sa.column("audio_id", sa.BigInteger),
    sa.column("transcript_id", sa.BigInteger),
    sa.column("policy", sa.Text),
    sa.column("policy_version", sa.Text),
    sa.column("model", sa.Text),
    sa.column("violates", sa.Boolean),
    sa.column("score", sa.Float),
    sa.column("threshold", sa.Float),
    sa.column("created_at", sa.DateTime(timezone=True)),
)
# The text of every policy version by which a clip was ever judged.
policies = sa.table("policies", sa.column("policy", sa.Text), sa.column("version", sa.Text))
# `app/studies/take_up.py` asks it about one clip at a time.
ra_queue = sa.table("ra_queue", sa.column("audio_id", sa.BigInteger), sa.column("finding", sa.Text))

ALL = (classifications, audio_files, transcripts, verdicts_in_force, policies, ra_queue)
