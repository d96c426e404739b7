"""What the page shows of one campaign, read once for all who look at it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from interface.laboratory import work_list
from interface.models import CampaignInfo, WorkList
from interface.views import (
    arm_rounds,
    campaign_info,
    campaign_state,
    campaign_targets,
    round_table,
    text_or_none,
)
from interface.views_candidates import Columns, campaign_columns
from loop.ledger import Ledger
from loop.targets import Targets


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of a campaign. Frames are shared between visitors: read them only."""

    info: CampaignInfo
    names: tuple[str, ...]  # all campaigns of the ledger, the newest first
    description: str
    phases: tuple[str, ...]
    image_shape: tuple[int, int] | None  # (h, w) of the designs; None for designs without image
    columns: Columns
    targets: Targets
    evaluations: pd.DataFrame  # without designs' own numbers
    rounds: pd.DataFrame  # views.round_table
    fidelities: Mapping[str, set[str]]  # property -> simulated, measured, or both
    work: WorkList | None  # what people are asked to measure; None where nothing ever was
    stamp: tuple[Any, ...]  # differs when the ledger has something new or a run starts or ends

    @property
    def frame(self) -> tuple[Any, ...]:
        """What decides which choices the page offers; the rest it can draw anew."""
        has_work = self.work is not None
        return self.names, self.phases, self.image_shape, self.columns.properties, has_work


class Snapshots:
    """The newest snapshot of each campaign; read again only when the ledger or the run changes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: dict[str, Snapshot] = {}
        self._lock = threading.Lock()

    def get(self, name: str | None = None) -> Snapshot:
        """The newest state of a campaign (None: the most recently started)."""
        with self._lock:
            number = self._ledger.campaign_id(name)
            frame = self._ledger.campaigns()
            row = frame[frame["id"] == number].to_dict(orient="records")[0]
            newest_first = frame.sort_values(["started_at", "id"], ascending=False)
            names = tuple(str(other) for other in newest_first["name"])
            # A run that ends or is killed may leave nothing new in the ledger.
            state = campaign_state(self._ledger, number, text_or_none(row["finished"]))
            stamp = (names, state, *(str(value) for value in row.values()))
            kept = self._kept.get(row["name"])
            if kept is None or kept.stamp != stamp:
                kept = _read(self._ledger, number, names, row, stamp)
                self._kept[row["name"]] = kept
            return kept


def _read(
    ledger: Ledger,
    number: int,
    names: tuple[str, ...],
    row: Mapping[Any, Any],
    stamp: tuple[Any, ...],
) -> Snapshot:
    settings = ledger.campaign_settings(number)
    columns = campaign_columns(ledger, number)
    wanted = [
        "id", "arm", "round", "status", "hit", "distance", "guidance", "fidelity",
        *columns.properties,
        *(f"requested_{name}" for name in columns.requested),
        *(f"predicted_{name}" for name in columns.predicted),
        *(f"predicted_std_{name}" for name in columns.predicted_std),
        *(f"uncertainty_{name}" for name in columns.uncertainty),
    ]  # fmt: skip
    evaluations = ledger.evaluations(number, columns=wanted)
    first = ledger.candidate(evaluations["id"].iloc[0]) if len(evaluations) else None
    image = None if first is None else first.microstructure
    return Snapshot(
        info=campaign_info(ledger, row["name"]),
        names=names,
        description=str(settings.get("campaign", {}).get("description", "")),
        phases=first.phases if first else (),
        image_shape=None if image is None else (image.shape[0], image.shape[1]),
        columns=columns,
        targets=campaign_targets(settings),
        evaluations=evaluations,
        rounds=round_table(evaluations, arm_rounds(ledger.rounds(number))),
        fidelities=ledger.fidelities(number),
        work=work_list(ledger, number) if row["asked"] else None,
        stamp=stamp,
    )
