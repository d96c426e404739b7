"""Adapters of a campaign's trained generator: designs like a handful of new micrographs.

Nothing is added to the ledger. What was trained lies in ``adapters/`` beside the checkpoints, each
file with the hash of the generator that it belongs to, and is found again by that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.proposal import Proposal
from flows.trained import trained_flow
from generators.adaptation import Adapter, AdaptSettings, adapt, adapted, check_images
from generators.adaptation_files import ADAPTER, load_adapter, save_adapter
from generators.adaptation_flow import AdaptedFlow, base_hash, frozen
from generators.flow import JointFlow
from generators.training.resume import TrainingState
from loop.candidate import Candidate
from loop.errors import InvalidInputError, unknown_name
from loop.feasible import within_constraints
from loop.images import downsample, list_images, read_labels, to_phases
from loop.round import evaluate, stage_rng
from loop.session import Session
from simulators.correlation import mean_chord_lengths

Labels = NDArray[np.uint8]
COMPARED = 64  # designs whose statistics stand for what a generator makes


@dataclass(frozen=True, eq=False)
class Adapted:
    """Designs of an adapted generator; ``table``: what their images are like, beside others.

    ``path``: of the adapter; ``trained``: now, not found as it was kept.
    """

    proposal: Proposal
    table: pd.DataFrame
    path: Path
    trained: bool


def adapt_to(
    session: Session,
    folder: Path | None,
    *,
    name: str,
    n: int,
    settings: AdaptSettings | None = None,
    strength: float = 1.0,
    score: bool = False,
    seed: int = 0,
) -> Adapted:
    """n designs of the kind of the label images in ``folder``.

    Without a folder the adapter of that name is used that was trained for the present generator.
    Raises InvalidInputError for images that cannot be learned from and a name that is taken or,
    without a folder, unknown; LedgerError when nothing is trained yet.
    """
    flow = trained_flow(session, "adapters")
    places = kept_files(session, flow, ADAPTER)
    images: list[Labels] = []
    adapter: Adapter
    if folder is None:
        if name not in places:
            raise InvalidInputError(
                unknown_name("adapter", name, places)
                if places
                else "this generator has no adapters yet; give micrographs of a new kind (--images)"
            )
        path = places[name]
        adapter = load_adapter(flow, path)
    else:
        if name in places:
            raise InvalidInputError(
                f"there is an adapter {name!r} of this generator already; choose another --name, "
                "or leave out --images to use it"
            )
        images = check_images(flow, _read(session, folder))
        rng = stage_rng(session.campaign.seed, f"adapter {name}", seed, "fit")
        keep = training_state(session)
        settings = settings or AdaptSettings()
        adapter = adapt(flow, images, settings, rng=rng, progress=session.progress, keep=keep)
        metrics = {"images": len(images), "steps": settings.steps}
        _, path = save_adapter(flow, adapter, adapters_folder(session), name=name, metrics=metrics)
        keep.clear()
    rng = stage_rng(session.campaign.seed, f"adapter {name}", seed, "propose")
    designs = _proposed(adapted(flow, adapter, strength), max(n, COMPARED), rng)
    rows = {"new micrographs": images} if images else {}
    rows |= {
        "library": list(session.library.patches(COMPARED, rng=rng)),
        "generator": images_of(_proposed(flow, COMPARED, rng)),
        "adapted": images_of(designs),
    }
    table = _statistics(rows, session.campaign.space.phases)
    about = {"adapter": name, "path": str(path), "strength": strength}
    proposal = answer_of(session, flow, designs[:n], about, table, score)
    return Adapted(proposal, table, path, folder is not None)


def answer_of(
    session: Session,
    flow: JointFlow,
    designs: Sequence[Candidate],
    about: dict[str, Any],
    table: pd.DataFrame,
    score: bool,
) -> Proposal:
    designs = within_constraints(session.campaign.space, designs)
    return Proposal(
        properties=session.properties,
        wishes=(),
        designs=tuple(designs),
        requests=np.full((len(designs), len(session.properties)), np.nan),
        outcomes=tuple(evaluate(session.simulators, designs)) if score else None,
        warnings=(),
        about={
            "generator": flow.name,
            **about,
            "statistics": table.astype(object).where(table.notna(), None).to_dict("records"),
        },
    )


def adapters_folder(session: Session) -> Path:
    return session.checkpoints / "adapters"


def training_state(session: Session) -> TrainingState:
    return TrainingState(adapters_folder(session) / "training")


def kept_files(session: Session, flow: JointFlow, kind: str) -> dict[str, Path]:
    """Files of a kind that were trained beside this flow, by their name."""
    base = base_hash(flow)
    found: dict[str, Path] = {}
    for beside in sorted(adapters_folder(session).glob("*.json")):
        try:
            card = json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # the checkpoint itself says what is wrong with it, when it is asked for
        path = beside.with_suffix(".safetensors")
        if card.get("generator") == kind and card.get("base") == base and path.is_file():
            found[str(card.get("name", ""))] = path
    return found


def _read(session: Session, folder: Path) -> list[Labels]:
    """Label images of a folder, read as the campaign's own are."""
    settings, phases = session.campaign.images, session.campaign.space.phases
    names = settings.labels if settings is not None else phases
    phase_of_label = [phases.index(name) for name in names]
    factor = settings.downsample if settings is not None else 1
    return [
        downsample(to_phases(path, read_labels(path), phase_of_label), factor, len(phases))
        for path in list_images(folder)
    ]


def _proposed(flow: JointFlow, n: int, rng: np.random.Generator) -> list[Candidate]:
    nothing = np.full((n, len(flow.properties)), np.nan)
    plain = flow if isinstance(flow, AdaptedFlow) else AdaptedFlow(flow, frozen(flow), 0.0)
    return plain.generate(nothing, guidance=0.0, rng=rng)


def images_of(designs: Sequence[Candidate]) -> list[Labels]:
    return [c.microstructure for c in designs if c.microstructure is not None]


def _statistics(kinds: dict[str, list[Labels]], phases: Sequence[str]) -> pd.DataFrame:
    """Mean fraction and mean chords along x and y of every phase but the first, by kind."""
    lines = []
    for kind, images in kinds.items():
        line: dict[str, Any] = {"images": kind, "count": len(images)}
        for p, phase in enumerate(phases[1:], start=1):
            chords = np.array([mean_chord_lengths(image, p) for image in images])
            x, y = (c[np.isfinite(c)] for c in chords.T)
            line[f"{phase}_fraction"] = float(np.mean([np.mean(i == p) for i in images]))
            line[f"{phase}_chord_x_px"] = float(x.mean()) if len(x) else np.nan
            line[f"{phase}_chord_y_px"] = float(y.mean()) if len(y) else np.nan
        lines.append(line)
    return pd.DataFrame(lines)
