"""What a running campaign shows in the workflow engine: rounds, best designs, how far it is."""

from __future__ import annotations

import base64
import io
import re
from typing import Any, cast
from uuid import UUID

import numpy as np
from PIL import Image
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.best import best_records
from loop.candidate import Candidate
from loop.session import Session

SHOWN = 8  # best designs
SIDE = 128  # px of one of their pictures
GAP = 4


def key_of(kind: str, name: str) -> str:
    """An artifact's key: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{kind}-{name}".lower()).strip("-")


def mosaic(candidates: list[Candidate]) -> bytes | None:
    """The microstructures side by side as a grey PNG, None when no candidate has one.

    Grey levels divide 0..255 evenly among the phases.
    """
    images = [c.microstructure for c in candidates if c.microstructure is not None]
    if not images:
        return None
    step = 255 // max(1, max(len(c.phases) for c in candidates) - 1)
    sheet = Image.new("L", (len(images) * (SIDE + GAP) - GAP, SIDE), 255)
    for i, labels in enumerate(images):
        grey = Image.fromarray((labels * step).astype(np.uint8))
        sheet.paste(grey.resize((SIDE, SIDE), Image.Resampling.NEAREST), (i * (SIDE + GAP), 0))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value if isinstance(value, (int, str, bool)) or value is None else str(value)


def publish(session: Session) -> None:
    """The table of rounds and the picture of the best designs so far."""
    name = session.campaign.name
    frame = session.ledger.rounds(session.campaign_id)
    table = [{str(k): _cell(v) for k, v in row.items()} for row in frame.to_dict("records")]
    create_table_artifact(
        table=table, key=key_of("rounds", name), description=f"Rounds of campaign {name}, all arms"
    )
    best = best_records(session.ledger, session.campaign_id, SHOWN)
    picture = mosaic([record.candidate for record in best])
    if picture is not None:
        create_image_artifact(
            image_url="data:image/png;base64," + base64.b64encode(picture).decode(),
            key=key_of("best", name),
            description=f"Best designs of campaign {name}, nearest to the targets first",
        )
    lines = [f"| {record.candidate.id[:8]} | {_values(record.outcome.values)} |" for record in best]
    if lines:
        create_markdown_artifact(
            markdown="\n".join(["| design | properties |", "|---|---|", *lines]),
            key=key_of("best-values", name),
            description=f"Properties of the best designs of campaign {name}",
        )


def _values(values: Any) -> str:
    return ", ".join(f"{name} = {value:.5g}" for name, value in values.items())


class HowFar:
    """One progress artifact for a flow run, moved forward as arms finish their rounds."""

    def __init__(self, name: str) -> None:
        made = create_progress_artifact(
            progress=0.0, key=key_of("progress", name), description=f"Campaign {name}"
        )
        self._id = cast(UUID, made)  # a coroutine only in asynchronous flows

    def show(self, done: int, total: int) -> None:
        """``done`` of ``total`` steps."""
        update_progress_artifact(self._id, progress=min(100.0, 100.0 * done / max(1, total)))
