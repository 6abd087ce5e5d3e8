"""own choices about sound, text and breaks, and the record of their use

Nothing that exists is changed. The release before works with these tables.

Revision ID: e91b5c3f7a26
Revises: d7e3a1904c58
Create Date: 2026-11-29 20:10:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = 'e91b5c3f7a26'
down_revision = 'd7e3a1904c58'
branch_labels = None
depends_on = None

NOW = sa.text('now()')


def upgrade():
    op.create_table('ra_preferences',
    sa.Column('user_id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('content', postgresql.JSONB(), server_default='{}', nullable=False),
    sa.Column('changed_at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_preferences_user_id')),
    sa.PrimaryKeyConstraint('user_id', name=op.f('pk_ra_preferences'))
    )
    op.create_table('ra_wellbeing',
    sa.Column('entry_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.Column('study_id', sa.BigInteger(), nullable=True),
    sa.Column('audio_id', sa.BigInteger(), nullable=True),
    sa.Column('event', sa.Text(), nullable=False),
    sa.Column('details', postgresql.JSONB(), server_default='{}', nullable=False),
    sa.CheckConstraint("event IN ('preferences', 'veil-lifted', 'hidden', 'break-proposed', 'break-taken', "
                       "'break-dismissed', 'soft-budget', 'hard-budget')", name=op.f('ck_ra_wellbeing_event')),
    sa.ForeignKeyConstraint(['study_id'], ['ra_studies.study_id'], name=op.f('fk_ra_wellbeing_study_id')),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_wellbeing_user_id')),
    sa.PrimaryKeyConstraint('entry_id', name=op.f('pk_ra_wellbeing'))
    )
    op.create_index(op.f('ix_ra_wellbeing_user_id_at'), 'ra_wellbeing', ['user_id', 'at'], unique=False)
    op.execute(
        'CREATE TRIGGER ra_wellbeing_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ra_wellbeing '
        'FOR EACH STATEMENT EXECUTE FUNCTION ra_refuse_change()'
    )


def downgrade():
    """Everybody's own choices and the record are lost; what a study sets stays in its settings."""
    op.drop_table('ra_wellbeing')
    op.drop_table('ra_preferences')
