"""what leads do: studies, codebooks, answers of reference, decisions, exports, and the record of it

Columns are added with defaults and tables are new, so the release before works with them.

Revision ID: f20d6a8c1b34
Revises: e41f7c0b9a26
Create Date: 2026-11-29 23:00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = 'f20d6a8c1b34'
down_revision = 'e41f7c0b9a26'
branch_labels = None
depends_on = None

NOW = sa.text('now()')
APPEND_ONLY = ('ra_acts', 'ra_references', 'ra_decisions', 'ra_receipts')


def upgrade():
    widen_studies()
    create_codebook_drafts()
    create_records()
    create_exports()
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ra_refuse_change()"
        )


def widen_studies():
    op.add_column('ra_studies', sa.Column('kind', sa.Text(), server_default='study', nullable=False))
    op.add_column('ra_studies', sa.Column('description', sa.Text(), server_default='', nullable=False))
    op.add_column('ra_studies', sa.Column('policies', postgresql.ARRAY(sa.Text()), server_default='{}', nullable=False))
    op.add_column('ra_studies', sa.Column('double_share', sa.Float(), server_default='1', nullable=False))
    op.add_column('ra_studies', sa.Column('everybody', sa.Boolean(), server_default=sa.text('true'), nullable=False))
    op.add_column('ra_studies', sa.Column('shares_exposure', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    op.add_column('ra_studies', sa.Column('design', postgresql.JSONB(), server_default='{}', nullable=False))
    op.add_column('ra_studies', sa.Column('created_by', sa.BigInteger(), nullable=True))
    op.add_column('ra_studies', sa.Column('closed_at', sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(op.f('ck_ra_studies_kind'), 'ra_studies', "kind IN ('study', 'training')")
    op.create_check_constraint(op.f('ck_ra_studies_double_share'), 'ra_studies', 'double_share BETWEEN 0 AND 1')
    op.add_column('ra_items', sa.Column('coders', sa.SmallInteger(), nullable=True))
    op.create_check_constraint(op.f('ck_ra_items_coders'), 'ra_items', 'coders BETWEEN 1 AND 20')
    op.create_table('ra_study_members',
    sa.Column('study_id', sa.BigInteger(), nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.Column('added_at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.ForeignKeyConstraint(['study_id'], ['ra_studies.study_id'], name=op.f('fk_ra_study_members_study_id')),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_study_members_user_id')),
    sa.PrimaryKeyConstraint('study_id', 'user_id', name=op.f('pk_ra_study_members'))
    )
    op.create_index(op.f('ix_ra_study_members_user_id'), 'ra_study_members', ['user_id'], unique=False)


def create_codebook_drafts():
    op.add_column('ra_codebooks', sa.Column('published_by', sa.BigInteger(), nullable=True))
    op.add_column('ra_codebooks', sa.Column('note', sa.Text(), server_default='', nullable=False))
    op.create_foreign_key(op.f('fk_ra_codebooks_published_by'), 'ra_codebooks', 'ra_users', ['published_by'], ['user_id'])
    op.add_column('ra_labels', sa.Column('answers', postgresql.JSONB(), server_default='{}', nullable=False))
    op.create_table('ra_codebook_drafts',
    sa.Column('codebook_id', sa.Text(), nullable=False),
    sa.Column('content', postgresql.JSONB(), nullable=False),
    sa.Column('based_on', sa.Text(), nullable=True),
    sa.Column('revision', sa.Integer(), server_default='1', nullable=False),
    sa.Column('changed_by', sa.BigInteger(), nullable=True),
    sa.Column('changed_at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.ForeignKeyConstraint(['changed_by'], ['ra_users.user_id'], name=op.f('fk_ra_codebook_drafts_changed_by')),
    sa.PrimaryKeyConstraint('codebook_id', name=op.f('pk_ra_codebook_drafts'))
    )


def create_records():
    op.create_table('ra_acts',
    sa.Column('act_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=True),
    sa.Column('act', sa.Text(), nullable=False),
    sa.Column('study_id', sa.BigInteger(), nullable=True),
    sa.Column('subject', sa.Text(), server_default='', nullable=False),
    sa.Column('details', postgresql.JSONB(), server_default='{}', nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_acts_user_id')),
    sa.PrimaryKeyConstraint('act_id', name=op.f('pk_ra_acts'))
    )
    op.create_index(op.f('ix_ra_acts_study_id'), 'ra_acts', ['study_id'], unique=False)
    op.create_table('ra_references',
    sa.Column('reference_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('audio_id', sa.BigInteger(), nullable=False),
    sa.Column('codebook_id', sa.Text(), nullable=False),
    sa.Column('codebook_version', sa.Text(), nullable=False),
    sa.Column('labels', postgresql.JSONB(), nullable=True),
    sa.Column('answers', postgresql.JSONB(), server_default='{}', nullable=False),
    sa.Column('reason', sa.Text(), server_default='', nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_references_user_id')),
    sa.PrimaryKeyConstraint('reference_id', name=op.f('pk_ra_references'))
    )
    op.create_index(op.f('ix_ra_references_audio_id'), 'ra_references', ['audio_id'], unique=False)
    op.create_table('ra_decisions',
    sa.Column('decision_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('item_id', sa.BigInteger(), nullable=False),
    sa.Column('codebook_id', sa.Text(), nullable=False),
    sa.Column('codebook_version', sa.Text(), nullable=False),
    sa.Column('labels', postgresql.JSONB(), nullable=False),
    sa.Column('answers', postgresql.JSONB(), server_default='{}', nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('label_ids', postgresql.ARRAY(sa.BigInteger()), nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("reason <> ''", name=op.f('ck_ra_decisions_reason')),
    sa.ForeignKeyConstraint(['item_id'], ['ra_items.item_id'], name=op.f('fk_ra_decisions_item_id')),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_decisions_user_id')),
    sa.PrimaryKeyConstraint('decision_id', name=op.f('pk_ra_decisions'))
    )
    op.create_index(op.f('ix_ra_decisions_item_id'), 'ra_decisions', ['item_id'], unique=False)
    op.create_table('ra_receipts',
    sa.Column('receipt_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=True),
    sa.Column('subject', sa.Text(), nullable=False),
    sa.Column('content', postgresql.JSONB(), nullable=False),
    sa.CheckConstraint("kind IN ('purge', 'erase')", name=op.f('ck_ra_receipts_kind')),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_receipts_user_id')),
    sa.PrimaryKeyConstraint('receipt_id', name=op.f('pk_ra_receipts'))
    )


def create_exports():
    op.create_table('ra_exports',
    sa.Column('export_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('study_ids', postgresql.ARRAY(sa.BigInteger()), nullable=False),
    sa.Column('formats', postgresql.ARRAY(sa.Text()), nullable=False),
    sa.Column('state', sa.Text(), server_default='waiting', nullable=False),
    sa.Column('rows_done', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('rows_total', sa.BigInteger(), nullable=True),
    sa.Column('bounds', postgresql.JSONB(), server_default='{}', nullable=False),
    sa.Column('files', postgresql.JSONB(), server_default='[]', nullable=False),
    sa.Column('error', sa.Text(), nullable=True),
    sa.Column('made_by', sa.BigInteger(), nullable=True),
    sa.Column('made_at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('began_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('seen_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('removed_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed', 'removed')", name=op.f('ck_ra_exports_state')),
    sa.ForeignKeyConstraint(['made_by'], ['ra_users.user_id'], name=op.f('fk_ra_exports_made_by')),
    sa.PrimaryKeyConstraint('export_id', name=op.f('pk_ra_exports')),
    sa.UniqueConstraint('name', name=op.f('uq_ra_exports_name'))
    )


def downgrade():
    """Studies stay as lists of clips. Who takes part, decisions, answers of reference and the record of acts are lost."""
    for table in ('ra_exports', 'ra_receipts', 'ra_decisions', 'ra_references', 'ra_acts', 'ra_codebook_drafts', 'ra_study_members'):
        op.drop_table(table)
    op.drop_column('ra_labels', 'answers')
    op.drop_column('ra_codebooks', 'note')
    op.drop_column('ra_codebooks', 'published_by')
    op.drop_column('ra_items', 'coders')
    for column in ('closed_at', 'created_by', 'design', 'shares_exposure', 'everybody', 'double_share', 'policies', 'description', 'kind'):
        op.drop_column('ra_studies', column)
