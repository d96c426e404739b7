"""How a value on the page is written: with its uncertainty, and with how it was found."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interface.dashboard_data import Snapshot
from interface.labels import format_number, format_uncertain
from interface.views import Against, requested_simulated
from loop.measuring import SIMULATED_PREFIX
from loop.targets import Target

OF_ITSELF = "predicted ± is of the property itself"  # measuring scatters about it


def value_text(value: float | None, uncertainty: float | None, target: Target | None = None) -> str:
    """A value with one standard deviation where that is known, else as its target resolves it."""
    return format_uncertain(value, uncertainty) if uncertainty else format_number(value, target)


def kind_of(
    name: str, kinds: Mapping[str, Collection[str]], fidelity: str | None, *, twice: bool
) -> str:
    """Simulated, measured, mixed where the record does not tell; "" where nothing does.

    ``kinds``: how values of each property were found in the campaign. ``fidelity``: of the whole
    record. ``twice``: the record has a simulated value of the property beside this one.
    """
    if twice:
        return "measured"
    known = kinds.get(name, ())
    return next(iter(known)) if len(known) == 1 else fidelity or ""


def chart_points(snapshot: Snapshot, name: str, against: Against) -> pd.DataFrame:
    """``views.requested_simulated``, and of each point x_std, y_std (NaN: not known) and kind.

    Raises InvalidInputError for a property that is not a column.
    """
    frame = snapshot.evaluations
    points = requested_simulated(frame, name, against)
    rows = frame[np.isfinite(frame[f"{against}_{name}"]) & np.isfinite(frame[name])]
    twin = SIMULATED_PREFIX + name
    twice = rows[twin].notna() if twin in rows else pd.Series(False, index=rows.index)

    def column(key: str) -> NDArray[Any]:
        return rows[key].to_numpy() if key in rows else np.full(len(rows), np.nan)

    return points.assign(
        x_std=column(f"predicted_std_{name}") if against == "predicted" else np.nan,
        y_std=column(f"uncertainty_{name}"),
        kind=[
            kind_of(name, snapshot.fidelities, fidelity, twice=again)
            for fidelity, again in zip(rows["fidelity"], twice, strict=True)
        ],
    )
