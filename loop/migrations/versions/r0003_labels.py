"""Labels of designs: categorical variables such as a processing route."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "candidate_label",
        sa.Column("candidate_key", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["candidate_key"], ["candidate.key"], name="fk_candidate_label_candidate_key_candidate"
        ),
        sa.PrimaryKeyConstraint("candidate_key", "name", name="pk_candidate_label"),
        sqlite_with_rowid=False,
    )
    # Empty and at the end: both databases add it in place, no table is copied.
    op.add_column("candidate", sa.Column("labels", sa.Text(), nullable=True))
