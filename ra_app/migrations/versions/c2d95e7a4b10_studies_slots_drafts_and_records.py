"""studies, slots, drafts and records

Existing assignments become slots of the study "Flagged clips", and existing labels stay as they are. The release before
works with these tables: a trigger completes its assignments, and nothing that it writes is missing.

Revision ID: c2d95e7a4b10
Revises: 8b41c07d2e96
Create Date: 2026-11-29 17:00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = 'c2d95e7a4b10'
down_revision = '8b41c07d2e96'
branch_labels = None
depends_on = None

STUDY = 'Flagged clips'
APPEND_ONLY = ('ra_labels', 'ra_codebooks', 'ra_audit', 'ra_exposures')
NOW = sa.text('now()')


def upgrade():
    create_studies()
    create_slots()
    create_labels_and_records()
    carry_over()
    close_slots()
    create_triggers()


def create_studies():
    op.create_table('ra_codebooks',
    sa.Column('codebook_id', sa.Text(), nullable=False),
    sa.Column('version', sa.Text(), nullable=False),
    sa.Column('sha256', sa.Text(), nullable=False),
    sa.Column('content', postgresql.JSONB(), nullable=False),
    sa.Column('published_at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.PrimaryKeyConstraint('codebook_id', 'version', name=op.f('pk_ra_codebooks'))
    )
    op.create_table('ra_studies',
    sa.Column('study_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('mode', sa.Text(), server_default='reveal', nullable=False),
    sa.Column('state', sa.Text(), server_default='open', nullable=False),
    sa.Column('selection', sa.Text(), server_default='list', nullable=False),
    sa.Column('coders_per_item', sa.SmallInteger(), server_default='1', nullable=False),
    sa.Column('codebook_id', sa.Text(), nullable=True),
    sa.Column('codebook_version', sa.Text(), nullable=True),
    sa.Column('shows', postgresql.ARRAY(sa.Text()), server_default='{}', nullable=False),
    sa.Column('lease_s', sa.Integer(), server_default='900', nullable=False),
    sa.Column('seed', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('settings', postgresql.JSONB(), server_default='{}', nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('head_audio_id', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('round_audio_id', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('taken_up_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("mode IN ('blind', 'assisted', 'reveal')", name=op.f('ck_ra_studies_mode')),
    sa.CheckConstraint("state IN ('open', 'paused', 'closed')", name=op.f('ck_ra_studies_state')),
    sa.CheckConstraint("selection IN ('flagged', 'list')", name=op.f('ck_ra_studies_selection')),
    sa.CheckConstraint('coders_per_item BETWEEN 1 AND 20', name=op.f('ck_ra_studies_coders_per_item')),
    sa.CheckConstraint('lease_s BETWEEN 60 AND 86400', name=op.f('ck_ra_studies_lease_s')),
    sa.CheckConstraint("shows <@ ARRAY['filename', 'batch', 'platform']", name=op.f('ck_ra_studies_shows')),
    sa.PrimaryKeyConstraint('study_id', name=op.f('pk_ra_studies')),
    sa.UniqueConstraint('name', name=op.f('uq_ra_studies_name'))
    )
    op.execute(f"INSERT INTO ra_studies (name, selection) VALUES ('{STUDY}', 'flagged')")
    op.create_table('ra_items',
    sa.Column('item_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('study_id', sa.BigInteger(), nullable=False),
    sa.Column('audio_id', sa.BigInteger(), nullable=False),
    sa.Column('stratum', sa.Text(), server_default='flagged', nullable=False),
    sa.Column('inclusion_probability', sa.Float(), server_default='1', nullable=False),
    sa.Column('position', sa.BigInteger(), nullable=False),
    sa.Column('doubtful', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.Column('added_at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('withdrawn_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint('inclusion_probability > 0 AND inclusion_probability <= 1', name=op.f('ck_ra_items_inclusion_probability')),
    sa.ForeignKeyConstraint(['study_id'], ['ra_studies.study_id'], name=op.f('fk_ra_items_study_id')),
    sa.PrimaryKeyConstraint('item_id', name=op.f('pk_ra_items')),
    sa.UniqueConstraint('study_id', 'audio_id', name=op.f('uq_ra_items_study_id_audio_id'))
    )
    op.create_index(op.f('ix_ra_items_audio_id'), 'ra_items', ['audio_id'], unique=False)


def create_slots():
    """Add the columns of slots to the assignments, still without the rules that carried rows do not keep yet."""
    op.drop_constraint(op.f('ck_ra_assignments_state'), 'ra_assignments', type_='check')
    op.create_check_constraint(op.f('ck_ra_assignments_state'), 'ra_assignments',
                               "state IN ('free', 'open', 'submitted', 'skipped', 'withdrawn')")
    op.add_column('ra_assignments', sa.Column('item_id', sa.BigInteger(), nullable=True))
    op.add_column('ra_assignments', sa.Column('coder_number', sa.SmallInteger(), nullable=True))
    op.add_column('ra_assignments', sa.Column('study_id', sa.BigInteger(), nullable=True))
    op.add_column('ra_assignments', sa.Column('position', sa.BigInteger(), nullable=True))
    op.add_column('ra_assignments', sa.Column('doubtful', sa.Boolean(), server_default=sa.text('false'), nullable=False))
    op.add_column('ra_assignments', sa.Column('claimed_until', sa.DateTime(timezone=True), nullable=True))
    op.add_column('ra_assignments', sa.Column('active_ms', sa.BigInteger(), server_default='0', nullable=False))
    op.alter_column('ra_assignments', 'user_id', nullable=True)
    op.alter_column('ra_assignments', 'opened_at', nullable=True)
    op.create_table('ra_declines',
    sa.Column('item_id', sa.BigInteger(), nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('declined_at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.CheckConstraint("kind IN ('skip', 'pass')", name=op.f('ck_ra_declines_kind')),
    sa.ForeignKeyConstraint(['item_id'], ['ra_items.item_id'], name=op.f('fk_ra_declines_item_id')),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_declines_user_id')),
    sa.PrimaryKeyConstraint('item_id', 'user_id', name=op.f('pk_ra_declines'))
    )
    op.create_index(op.f('ix_ra_declines_user_id_kind'), 'ra_declines', ['user_id', 'kind'], unique=False)
    op.create_table('ra_drafts',
    sa.Column('assignment_id', sa.BigInteger(), nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.Column('content', postgresql.JSONB(), nullable=False),
    sa.Column('base_label_id', sa.BigInteger(), nullable=True),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.ForeignKeyConstraint(['assignment_id'], ['ra_assignments.assignment_id'], name=op.f('fk_ra_drafts_assignment_id')),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_drafts_user_id')),
    sa.ForeignKeyConstraint(['base_label_id'], ['ra_labels.label_id'], name=op.f('fk_ra_drafts_base_label_id')),
    sa.PrimaryKeyConstraint('assignment_id', 'user_id', name=op.f('pk_ra_drafts'))
    )
    op.create_index(op.f('ix_ra_drafts_user_id'), 'ra_drafts', ['user_id'], unique=False)


def create_labels_and_records():
    op.add_column('ra_labels', sa.Column('codebook_sha256', sa.Text(), nullable=True))
    op.add_column('ra_labels', sa.Column('mode', sa.Text(), nullable=True))
    op.add_column('ra_labels', sa.Column('transcript_id', sa.BigInteger(), nullable=True))
    op.add_column('ra_labels', sa.Column('classification_ids', postgresql.ARRAY(sa.BigInteger()), server_default='{}', nullable=False))
    op.add_column('ra_labels', sa.Column('active_ms', sa.BigInteger(), nullable=True))
    op.add_column('ra_labels', sa.Column('heard_ms', sa.BigInteger(), nullable=True))
    op.add_column('ra_labels', sa.Column('heard', postgresql.JSONB(), server_default='[]', nullable=False))
    op.add_column('ra_labels', sa.Column('spans', postgresql.JSONB(), server_default='[]', nullable=False))
    op.create_check_constraint(op.f('ck_ra_labels_mode'), 'ra_labels', "mode IN ('blind', 'assisted', 'reveal')")
    op.create_table('ra_audit',
    sa.Column('entry_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.Column('event', sa.Text(), nullable=False),
    sa.Column('audio_id', sa.BigInteger(), nullable=False),
    sa.Column('assignment_id', sa.BigInteger(), nullable=True),
    sa.Column('details', postgresql.JSONB(), server_default='{}', nullable=False),
    sa.CheckConstraint("event IN ('claimed', 'opened', 'listened', 'labelled', 'revealed', 'skipped', 'passed')", name=op.f('ck_ra_audit_event')),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_audit_user_id')),
    sa.PrimaryKeyConstraint('entry_id', name=op.f('pk_ra_audit'))
    )
    op.create_index(op.f('ix_ra_audit_user_id_audio_id'), 'ra_audit', ['user_id', 'audio_id'], unique=False)
    op.create_index(op.f('ix_ra_audit_audio_id'), 'ra_audit', ['audio_id'], unique=False)
    op.create_table('ra_exposures',
    sa.Column('exposure_id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=NOW, nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.Column('audio_id', sa.BigInteger(), nullable=False),
    sa.Column('assignment_id', sa.BigInteger(), nullable=True),
    sa.Column('heard_ms', sa.BigInteger(), nullable=False),
    sa.Column('intervals', postgresql.JSONB(), nullable=False),
    sa.CheckConstraint('heard_ms >= 0', name=op.f('ck_ra_exposures_heard_ms')),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_exposures_user_id')),
    sa.PrimaryKeyConstraint('exposure_id', name=op.f('pk_ra_exposures'))
    )
    op.create_index(op.f('ix_ra_exposures_user_id_audio_id'), 'ra_exposures', ['user_id', 'audio_id'], unique=False)
    op.create_index(op.f('ix_ra_exposures_user_id_at'), 'ra_exposures', ['user_id', 'at'], unique=False)
    op.create_table('ra_pseudonyms',
    sa.Column('pseudonym', sa.Text(), nullable=False),
    sa.Column('user_id', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['ra_users.user_id'], name=op.f('fk_ra_pseudonyms_user_id')),
    sa.PrimaryKeyConstraint('pseudonym', name=op.f('pk_ra_pseudonyms')),
    sa.UniqueConstraint('user_id', name=op.f('uq_ra_pseudonyms_user_id'))
    )


def carry_over():
    """Make a slot of each assignment. Of the people who opened the same clip, those who labelled it come first."""
    op.execute("INSERT INTO ra_pseudonyms (pseudonym, user_id) SELECT pseudonym, user_id FROM ra_users")
    op.execute(
        "INSERT INTO ra_items (study_id, audio_id, position) SELECT s.study_id, a.audio_id, a.audio_id "
        "FROM (SELECT DISTINCT audio_id FROM ra_assignments) a, ra_studies s ORDER BY a.audio_id"
    )
    op.execute(
        "UPDATE ra_assignments a SET item_id = i.item_id, study_id = i.study_id, position = i.position, coder_number = n.number "
        "FROM ra_items i, (SELECT assignment_id, row_number() OVER (PARTITION BY audio_id "
        "ORDER BY array_position(ARRAY['submitted', 'open', 'skipped'], state), assignment_id) AS number FROM ra_assignments) n "
        "WHERE i.audio_id = a.audio_id AND n.assignment_id = a.assignment_id"
    )
    op.execute(
        "INSERT INTO ra_declines (item_id, user_id, kind, declined_at) "
        "SELECT item_id, user_id, 'skip', opened_at FROM ra_assignments WHERE state = 'skipped'"
    )
    # Whoever opened a clip comes back to it, also when somebody else holds it by now.
    op.execute(
        "INSERT INTO ra_audit (at, user_id, event, audio_id, assignment_id) "
        "SELECT opened_at, user_id, 'claimed', audio_id, assignment_id FROM ra_assignments ORDER BY opened_at"
    )
    # The app knew only this mode: verdicts are shown after the first label. `blind` says which labels came after that.
    op.execute("UPDATE ra_labels SET mode = 'reveal'")


def close_slots():
    op.alter_column('ra_assignments', 'item_id', nullable=False)
    op.alter_column('ra_assignments', 'coder_number', nullable=False)
    op.alter_column('ra_assignments', 'study_id', nullable=False)
    op.alter_column('ra_assignments', 'position', nullable=False)
    op.create_foreign_key(op.f('fk_ra_assignments_item_id'), 'ra_assignments', 'ra_items', ['item_id'], ['item_id'])
    op.create_foreign_key(op.f('fk_ra_assignments_study_id'), 'ra_assignments', 'ra_studies', ['study_id'], ['study_id'])
    op.create_unique_constraint(op.f('uq_ra_assignments_item_id_coder_number'), 'ra_assignments', ['item_id', 'coder_number'])
    op.create_check_constraint(op.f('ck_ra_assignments_holder'), 'ra_assignments',
                               "(user_id IS NULL) = (state IN ('free', 'withdrawn'))")
    op.create_check_constraint(op.f('ck_ra_assignments_coder_number'), 'ra_assignments', 'coder_number >= 1')
    for name, columns, where in INDEXES:
        op.create_index(name, 'ra_assignments', columns, unique=name.startswith('ux'), postgresql_where=sa.text(where))


INDEXES = (
    ('ux_ra_assignments_item_user', ['item_id', 'user_id'], 'user_id IS NOT NULL'),
    ('ix_ra_assignments_free', ['study_id', 'position'], "state = 'free'"),
    ('ix_ra_assignments_free_doubtful', ['study_id', 'position'], "state = 'free' AND doubtful"),
    ('ix_ra_assignments_open', ['study_id', 'claimed_until'], "state = 'open'"),
    ('ix_ra_assignments_skipped', ['study_id', 'position'], "state = 'skipped'"),
    ('ix_ra_assignments_own', ['user_id', 'study_id', 'position'], 'user_id IS NOT NULL'),
)


def create_triggers():
    create_function('ra_refuse_change', """
        BEGIN
            RAISE EXCEPTION 'rows of % are only ever added: % is refused', TG_TABLE_NAME, TG_OP
                USING ERRCODE = 'restrict_violation', HINT = 'A correction is a new row.';
        END
    """)
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ra_refuse_change()"
        )
    create_function('ra_keep_pseudonym', """
        BEGIN
            INSERT INTO ra_pseudonyms (pseudonym, user_id) VALUES (NEW.pseudonym, NEW.user_id)
                ON CONFLICT (user_id) DO UPDATE SET pseudonym = excluded.pseudonym;
            RETURN NULL;
        END
    """)
    op.execute(
        "CREATE TRIGGER ra_users_pseudonym AFTER INSERT OR UPDATE OF pseudonym ON ra_users "
        "FOR EACH ROW EXECUTE FUNCTION ra_keep_pseudonym()"
    )
    # The release before writes only the clip and the person. Its row becomes one more slot of the clip.
    create_function('ra_complete_assignment', """
        BEGIN
            IF NEW.item_id IS NULL THEN
                SELECT min(study_id) INTO STRICT NEW.study_id FROM ra_studies WHERE selection = 'flagged';
                INSERT INTO ra_items (study_id, audio_id, position)
                    VALUES (NEW.study_id, NEW.audio_id, NEW.audio_id) ON CONFLICT DO NOTHING;
                SELECT item_id, position, doubtful INTO STRICT NEW.item_id, NEW.position, NEW.doubtful FROM ra_items
                    WHERE study_id = NEW.study_id AND audio_id = NEW.audio_id FOR UPDATE;
                SELECT coalesce(max(coder_number), 0) + 1 INTO NEW.coder_number FROM ra_assignments
                    WHERE item_id = NEW.item_id;
            END IF;
            RETURN NEW;
        END
    """)
    op.execute(
        "CREATE TRIGGER ra_assignments_complete BEFORE INSERT ON ra_assignments "
        "FOR EACH ROW EXECUTE FUNCTION ra_complete_assignment()"
    )


def create_function(name, body):
    """Create the function of a trigger. It finds the app's tables whatever the search path of the writer is."""
    op.execute(
        "DO $do$ BEGIN EXECUTE format('CREATE FUNCTION " + name + "() RETURNS trigger LANGUAGE plpgsql SET search_path = %I AS %L', "
        "current_schema(), $body$" + body + "$body$); END $do$"
    )


def downgrade():
    """Keep every account, every assignment that somebody holds or held last, and every label."""
    op.execute('DROP TRIGGER ra_users_pseudonym ON ra_users')
    op.execute('DROP TRIGGER ra_assignments_complete ON ra_assignments')
    op.execute('DROP TRIGGER ra_labels_append_only ON ra_labels')
    for table in ('ra_pseudonyms', 'ra_exposures', 'ra_audit', 'ra_drafts', 'ra_declines', 'ra_codebooks'):
        op.drop_table(table)
    for function in ('ra_keep_pseudonym', 'ra_complete_assignment', 'ra_refuse_change'):
        op.execute(f'DROP FUNCTION {function}()')
    for name, _, _ in INDEXES:
        op.drop_index(name, table_name='ra_assignments')
    for name in ('holder', 'coder_number', 'state'):
        op.drop_constraint(op.f(f'ck_ra_assignments_{name}'), 'ra_assignments', type_='check')
    op.drop_constraint(op.f('uq_ra_assignments_item_id_coder_number'), 'ra_assignments', type_='unique')
    op.execute('DELETE FROM ra_assignments WHERE user_id IS NULL')
    op.execute('UPDATE ra_assignments SET opened_at = now() WHERE opened_at IS NULL')
    op.alter_column('ra_assignments', 'user_id', nullable=False)
    op.alter_column('ra_assignments', 'opened_at', nullable=False)
    for column in ('active_ms', 'claimed_until', 'doubtful', 'position', 'study_id', 'coder_number', 'item_id'):
        op.drop_column('ra_assignments', column)
    op.create_check_constraint(op.f('ck_ra_assignments_state'), 'ra_assignments', "state IN ('open', 'submitted', 'skipped')")
    op.drop_table('ra_items')
    op.drop_table('ra_studies')
    op.drop_constraint(op.f('ck_ra_labels_mode'), 'ra_labels', type_='check')
    for column in ('spans', 'heard', 'heard_ms', 'active_ms', 'classification_ids', 'transcript_id', 'mode', 'codebook_sha256'):
        op.drop_column('ra_labels', column)
