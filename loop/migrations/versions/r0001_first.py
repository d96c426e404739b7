"""The first schema: campaigns, batches, candidates, evaluations, rounds, checkpoints."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "campaign",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("settings_hash", sa.Text(), nullable=False),
        sa.Column("data_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_campaign"),
        sa.UniqueConstraint("name", name="uq_campaign_name"),
    )
    op.create_table(
        "candidate",
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("phases", sa.Text(), nullable=False),
        sa.Column("elements", sa.Text(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("microstructure", sa.LargeBinary(), nullable=True),
        sa.Column("phase_compositions", sa.LargeBinary(), nullable=True),
        sa.Column("process", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_candidate"),
        sa.UniqueConstraint("id", name="uq_candidate_id"),
    )
    op.create_table(
        "candidate_value",
        sa.Column("candidate_key", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["candidate_key"], ["candidate.key"], name="fk_candidate_value_candidate_key_candidate"
        ),
        sa.PrimaryKeyConstraint("candidate_key", "name", name="pk_candidate_value"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoint",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("saved_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name="fk_checkpoint_campaign_id_campaign"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoint"),
    )
    op.create_index(
        "ix_checkpoint_campaign_id_arm_round_kind",
        "checkpoint",
        ["campaign_id", "arm", "round", "kind"],
        unique=False,
    )
    op.create_table(
        "claim",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("claimed_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name="fk_claim_campaign_id_campaign"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_claim"),
    )
    op.create_index("ix_claim_campaign_id", "claim", ["campaign_id"], unique=False)
    op.create_table(
        "field",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name="fk_field_campaign_id_campaign"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_field"),
        sa.UniqueConstraint("campaign_id", "name", name="uq_field_campaign_id_name"),
    )
    op.create_table(
        "round_summary",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name="fk_round_summary_campaign_id_campaign"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_round_summary"),
        sa.UniqueConstraint(
            "campaign_id", "arm", "round", name="uq_round_summary_campaign_id_arm_round"
        ),
    )
    op.create_table(
        "run_start",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("versions", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name="fk_run_start_campaign_id_campaign"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_run_start"),
    )
    op.create_index("ix_run_start_campaign_id", "run_start", ["campaign_id"], unique=False)
    op.create_table(
        "run_stop",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("stopped_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name="fk_run_stop_campaign_id_campaign"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_run_stop"),
    )
    op.create_index("ix_run_stop_campaign_id", "run_stop", ["campaign_id"], unique=False)
    op.create_table(
        "batch",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("start_id", sa.Integer(), nullable=False),
        sa.Column("planned_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name="fk_batch_campaign_id_campaign"
        ),
        sa.ForeignKeyConstraint(["start_id"], ["run_start.id"], name="fk_batch_start_id_run_start"),
        sa.PrimaryKeyConstraint("id", name="pk_batch"),
        sa.UniqueConstraint("campaign_id", "arm", "round", name="uq_batch_campaign_id_arm_round"),
    )
    op.create_table(
        "proposal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("candidate_key", sa.Integer(), nullable=False),
        sa.Column("elements", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("guidance", sa.Double(), nullable=True),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("predicted", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name="fk_proposal_batch_id_batch"),
        sa.ForeignKeyConstraint(
            ["candidate_key"], ["candidate.key"], name="fk_proposal_candidate_key_candidate"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_proposal"),
        sa.UniqueConstraint("batch_id", "position", name="uq_proposal_batch_id_position"),
    )
    op.create_index("ix_proposal_candidate_key", "proposal", ["candidate_key"], unique=False)
    op.create_table(
        "evaluation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("start_id", sa.Integer(), nullable=False),
        sa.Column("simulator", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("fidelity", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("diagnostics", sa.Text(), nullable=False),
        sa.Column("distance", sa.Double(), nullable=True),
        sa.Column("hit", sa.Boolean(), nullable=False),
        sa.Column("evaluated_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposal.id"], name="fk_evaluation_proposal_id_proposal"
        ),
        sa.ForeignKeyConstraint(
            ["start_id"], ["run_start.id"], name="fk_evaluation_start_id_run_start"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_evaluation"),
        sa.UniqueConstraint("proposal_id", name="uq_evaluation_proposal_id"),
    )
    op.create_table(
        "proposal_value",
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposal.id"], name="fk_proposal_value_proposal_id_proposal"
        ),
        sa.PrimaryKeyConstraint("proposal_id", "name", name="pk_proposal_value"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "property_value",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name="fk_property_value_evaluation_id_evaluation"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "name", name="pk_property_value"),
        sqlite_with_rowid=False,
    )
