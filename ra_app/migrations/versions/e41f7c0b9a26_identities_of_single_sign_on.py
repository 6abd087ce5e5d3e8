"""identities of single sign-on

One new table; nothing that exists is changed. The release before works with it: it does not look at it.

Revision ID: e41f7c0b9a26
Revises: e91b5c3f7a26
Create Date: 2026-11-29 20:00:00
"""

import sqlalchemy as sa
from alembic import op
revision = 'e41f7c0b9a26'
down_revision = 'e91b5c3f7a26'
branch_labels = None
depends_on = None


def upgrade():
    op.create_table('ra_identities',
    sa.Column('issuer', sa.Text(), nullable=False),
    sa.Column('subject', sa.Text(), nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.Column('connected_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_identities_user_id')),
    sa.PrimaryKeyConstraint('issuer', 'subject', name=op.f('pk_ra_identities')),
    sa.UniqueConstraint('user_id', name=op.f('uq_ra_identities_user_id'))
    )


def downgrade():
    """Who logged in by single sign-on needs a link for a new password afterwards."""
    op.drop_table('ra_identities')
