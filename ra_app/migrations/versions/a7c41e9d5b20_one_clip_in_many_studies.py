"""the same person may have the same clip in several studies, but holds it in one at a time

The release before looks for a person's slot of a clip by the clip alone, which goes on working: it finds one of them.

Revision ID: a7c41e9d5b20
Revises: f20d6a8c1b34
Create Date: 2026-11-29 23:30:00
"""

import sqlalchemy as sa
from alembic import op
revision = 'a7c41e9d5b20'
down_revision = 'f20d6a8c1b34'
branch_labels = None
depends_on = None

PERSON = sa.text('user_id IS NOT NULL')
OPEN = sa.text("state = 'open'")


def upgrade():
    op.drop_constraint(op.f('uq_ra_assignments_audio_id_user_id'), 'ra_assignments', type_='unique')
    op.create_index('ix_ra_assignments_person', 'ra_assignments', ['audio_id', 'user_id'], unique=False, postgresql_where=PERSON)
    op.create_index('ux_ra_assignments_held', 'ra_assignments', ['audio_id', 'user_id'], unique=True, postgresql_where=OPEN)


def downgrade():
    """Fails, and changes nothing, as soon as somebody has had a clip in two studies: their labels cannot be dropped."""
    op.drop_index('ux_ra_assignments_held', table_name='ra_assignments')
    op.drop_index('ix_ra_assignments_person', table_name='ra_assignments')
    op.create_unique_constraint(op.f('uq_ra_assignments_audio_id_user_id'), 'ra_assignments', ['audio_id', 'user_id'])
