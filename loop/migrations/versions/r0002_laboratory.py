"""Laboratories: what is asked for and told, uncertainty and fidelity of values, waiting runs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "request",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("candidate_key", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("asked_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name="fk_request_campaign_id_campaign"
        ),
        sa.ForeignKeyConstraint(
            ["candidate_key"], ["candidate.key"], name="fk_request_candidate_key_candidate"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_request"),
        sa.UniqueConstraint(
            "campaign_id",
            "candidate_key",
            "name",
            name="uq_request_campaign_id_candidate_key_name",
        ),
    )
    op.create_table(
        "measurement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("candidate_key", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("uncertainty", sa.Double(), nullable=True),
        sa.Column("told_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name="fk_measurement_campaign_id_campaign"
        ),
        sa.ForeignKeyConstraint(
            ["candidate_key"], ["candidate.key"], name="fk_measurement_candidate_key_candidate"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_measurement"),
    )
    op.create_index(
        "ix_measurement_candidate_key_name", "measurement", ["candidate_key", "name"], unique=False
    )
    # Empty columns at the end: both databases add them in place, no table is copied.
    op.add_column("run_stop", sa.Column("waiting", sa.Text(), nullable=True))
    op.add_column("property_value", sa.Column("uncertainty", sa.Double(), nullable=True))
    op.add_column("property_value", sa.Column("fidelity", sa.Text(), nullable=True))
