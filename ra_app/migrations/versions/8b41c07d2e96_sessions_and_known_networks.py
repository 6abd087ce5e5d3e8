"""count sessions, remember networks

Revision ID: 8b41c07d2e96
Revises: 3280506a12d8
Create Date: 2026-11-29 08:00:00
"""

import sqlalchemy as sa
from alembic import op
revision = '8b41c07d2e96'
down_revision = '3280506a12d8'
branch_labels = None
depends_on = None


def upgrade():
    # Only additions, with defaults: the release before goes on working.
    op.add_column('ra_users', sa.Column('session_epoch', sa.Integer(), server_default='0', nullable=False))
    op.add_column('ra_users', sa.Column('unlocked_until', sa.DateTime(timezone=True), nullable=True))
    op.create_table('ra_known_networks',
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.Column('network', sa.Text(), nullable=False),
    sa.Column('seen_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_known_networks_user_id')),
    sa.PrimaryKeyConstraint('user_id', 'network', name=op.f('pk_ra_known_networks'))
    )


def downgrade():
    op.drop_table('ra_known_networks')
    op.drop_column('ra_users', 'unlocked_until')
    op.drop_column('ra_users', 'session_epoch')
