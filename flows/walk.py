"""A walk between two designs with the campaign's trained generator, every frame scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.latent_frames import frames_between
from flows.pictures import side_by_side
from flows.trained import trained_frames
from generators.editor import DEPTH
from generators.interpolation import Path
from loop.candidate import Candidate, Outcome
from loop.errors import InvalidInputError, unknown_name
from loop.feasible import within_constraints
from loop.round import evaluate
from loop.session import Session


@dataclass(frozen=True, eq=False)
class Walk:
    """Designs from one end to the other and what the simulators found of each."""

    designs: tuple[Candidate, ...]
    outcomes: tuple[Outcome, ...]

    def frame(self) -> pd.DataFrame:
        """One row a design: t from 0 to 1, id, status, every property, its bounds, the reason."""
        table: dict[str, object] = {
            "t": np.linspace(0.0, 1.0, len(self.designs)),
            "id": [c.id for c in self.designs],
            "status": [o.status for o in self.outcomes],
        }
        for name in dict.fromkeys(k for o in self.outcomes for k in o.values):
            table[name] = [o.values.get(name, np.nan) for o in self.outcomes]
            ends = [o.bounds.get(name) for o in self.outcomes]
            if any(ends):
                table[f"{name}_low"] = [np.nan if e is None else e[0] for e in ends]
                table[f"{name}_high"] = [np.nan if e is None else e[1] for e in ends]
        if any(o.reason for o in self.outcomes):
            table["reason"] = [o.reason or None for o in self.outcomes]
        return pd.DataFrame(table)

    def strip(self, scale: int = 2) -> NDArray[np.uint8] | None:
        """The images side by side as grey values (h, w), None where designs have none."""
        images = [c.microstructure for c in self.designs if c.microstructure is not None]
        if not images:
            return None
        return side_by_side(images, len(self.designs[0].phases), scale=scale)


def walk(
    session: Session,
    first: Candidate,
    last: Candidate,
    n: int,
    *,
    path: Path = "slerp",
    depth: float = DEPTH,
    guidance: float = 2.0,
    follow: Sequence[str] = (),
) -> Walk:
    """n designs from ``first`` to ``last``; ``follow``: properties that shall move evenly.

    The ends are as they are; every design between them meets the campaign's constraints.
    Raises InvalidInputError for an unknown property, one that an end does not have, and a
    generator that cannot edit; LedgerError when nothing is trained yet.
    """
    for name in follow:
        if name not in session.properties:
            raise InvalidInputError(
                "--follow: " + unknown_name("property", name, session.properties)
            )
    generator = trained_frames(session, "walks")
    ends = evaluate(session.simulators, [first, last])
    requests = np.full((n, len(session.properties)), np.nan)
    for name in follow:
        for design, end in zip((first, last), ends, strict=True):
            if name not in end.values:
                raise InvalidInputError(f"design {design.id} has no {name}: {end.reason}")
        column = session.properties.index(name)
        requests[:, column] = np.linspace(ends[0].values[name], ends[1].values[name], n)
    designs = frames_between(
        generator, first, last, n, guidance=guidance, path=path, depth=depth, requests=requests
    )
    between = within_constraints(session.campaign.space, designs[1:-1])
    between = session.with_difference(between)
    inner = evaluate(session.simulators, between)
    return Walk((designs[0], *between, designs[-1]), (ends[0], *inner, ends[1]))
