"""links that let people in, and the record of changes of accounts

Nothing that exists is changed; assignments get one more index. The release before works with these tables.

Revision ID: d7e3a1904c58
Revises: c2d95e7a4b10
Create Date: 2026-11-29 18:10:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = 'd7e3a1904c58'
down_revision = 'c2d95e7a4b10'
branch_labels = None
depends_on = None

NOW = sa.text('now()')


def upgrade():
    op.create_table('ra_links',
    sa.Column('link_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('token_sha256', sa.Text(), nullable=False),
    sa.Column('role', sa.Text(), nullable=True),
    sa.Column('username', sa.Text(), nullable=True),
    sa.Column('user_id', sa.BigInteger(), nullable=True),
    sa.Column('made_by', sa.BigInteger(), nullable=False),
    sa.Column('made_at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('used_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('revoked_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("kind IN ('invite', 'reset')", name=op.f('ck_ra_links_kind')),
    sa.CheckConstraint("role IN ('ra', 'lead', 'admin')", name=op.f('ck_ra_links_role')),
    sa.CheckConstraint("(role IS NOT NULL) = (kind = 'invite')", name=op.f('ck_ra_links_invite')),
    sa.CheckConstraint("kind = 'invite' OR user_id IS NOT NULL", name=op.f('ck_ra_links_reset')),
    sa.ForeignKeyConstraint(['made_by'], ['ra_users.user_id'], name=op.f('fk_ra_links_made_by')),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_links_user_id')),
    sa.PrimaryKeyConstraint('link_id', name=op.f('pk_ra_links')),
    sa.UniqueConstraint('token_sha256', name=op.f('uq_ra_links_token_sha256'))
    )
    op.create_index('ix_ra_links_waiting', 'ra_links', ['expires_at'], unique=False,
                    postgresql_where=sa.text('used_at IS NULL AND revoked_at IS NULL'))
    op.create_table('ra_account_changes',
    sa.Column('change_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('by_user_id', sa.BigInteger(), nullable=True),
    sa.Column('event', sa.Text(), nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=True),
    sa.Column('details', postgresql.JSONB(), server_default='{}', nullable=False),
    sa.CheckConstraint("event IN ('created', 'invited', 'joined', 'reset-link', 'link-revoked', 'password', "
                       "'closed', 'opened', 'role', 'sessions-ended', 'unlocked')", name=op.f('ck_ra_account_changes_event')),
    sa.ForeignKeyConstraint(['by_user_id'], ['ra_users.user_id'], name=op.f('fk_ra_account_changes_by_user_id')),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_account_changes_user_id')),
    sa.PrimaryKeyConstraint('change_id', name=op.f('pk_ra_account_changes'))
    )
    op.create_index(op.f('ix_ra_account_changes_user_id_change_id'), 'ra_account_changes', ['user_id', 'change_id'], unique=False)
    op.execute(
        'CREATE TRIGGER ra_account_changes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ra_account_changes '
        'FOR EACH STATEMENT EXECUTE FUNCTION ra_refuse_change()'
    )
    # For a person's own history and labels of a day.
    op.create_index('ix_ra_assignments_done', 'ra_assignments', ['user_id', 'submitted_at', 'assignment_id'], unique=False,
                    postgresql_where=sa.text("state = 'submitted'"))


def downgrade():
    """Links and the record of changes are lost; accounts stay as they are."""
    op.drop_index('ix_ra_assignments_done', table_name='ra_assignments')
    op.drop_table('ra_account_changes')
    op.drop_table('ra_links')
