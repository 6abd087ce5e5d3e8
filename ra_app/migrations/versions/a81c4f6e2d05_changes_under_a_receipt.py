"""rows that are only ever added to may be changed and deleted in a transaction that wrote a receipt

The trigger's function stands under its old name, so the release before works with it.

Revision ID: a81c4f6e2d05
Revises: a7c41e9d5b20
Create Date: 2026-11-29 23:35:00
"""

from alembic import op
revision = 'a81c4f6e2d05'
down_revision = 'a7c41e9d5b20'
branch_labels = None
depends_on = None

# Receipts, acts of leads, changes of accounts and published codebooks are not among them: nothing ever changes these.
OPENED = "'ra_labels', 'ra_audit', 'ra_exposures', 'ra_wellbeing', 'ra_references', 'ra_decisions'"
REFUSE = """
        RAISE EXCEPTION 'rows of % are only ever added: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation', HINT = 'A correction is a new row.';
"""


def upgrade():
    # `xmin`: the transaction that wrote the receipt must be this one, so that no old receipt opens anything.
    replace_function(f"""
    DECLARE
        receipt text := current_setting('ra_app.receipt', true);
    BEGIN
        IF TG_OP IN ('UPDATE', 'DELETE') AND TG_TABLE_NAME IN ({OPENED}) AND receipt ~ '^[0-9]{{1,18}}$' THEN
            PERFORM FROM ra_receipts
                WHERE receipt_id = receipt::bigint AND xmin = pg_current_xact_id()::xid;
            IF FOUND THEN
                RETURN NULL;
            END IF;
        END IF;
        {REFUSE}
    END
    """)


def replace_function(body):
    """It finds the app's tables whatever the search path of the writer is."""
    op.execute(
        "DO $do$ BEGIN EXECUTE format('CREATE OR REPLACE FUNCTION ra_refuse_change() RETURNS trigger LANGUAGE plpgsql "
        "SET search_path = %I AS %L', current_schema(), $body$" + body + "$body$); END $do$"
    )


def downgrade():
    """What was purged or erased stays so. Receipts stay; they open nothing any more."""
    replace_function(f'BEGIN {REFUSE} END')
