"""Graded designs of a campaign's trained generator: phase fractions change over the image.

The branch that makes the generator follow a map is trained when it is first asked for, and kept as
adapters are (``flows.adaptation``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.adaptation import (
    COMPARED,
    Adapted,
    adapters_folder,
    answer_of,
    images_of,
    kept_files,
    training_state,
)
from flows.proposal import Wish, asked_values
from flows.propose import GUIDANCE, warnings_for
from flows.trained import trained_flow
from generators.adaptation_control import ControlSettings, control
from generators.adaptation_files import BRANCH, load_branch, save_branch
from generators.adaptation_graded import SETTLE, STRENGTH, graded
from generators.adaptation_maps import (
    Axis,
    checked_map,
    fraction_maps,
    gradient_map,
    map_error,
    profile_error,
    resampled,
)
from generators.flow import JointFlow
from generators.networks.control import ControlBranch
from loop.candidate import Candidate
from loop.errors import InvalidInputError, unknown_name
from loop.round import stage_rng
from loop.session import Session

Labels = NDArray[np.uint8]
FloatArray = NDArray[np.float64]
LEAST_COMPARED = 8  # of larger images, which say more each
WINDOW = 16  # px, over which requested and found fractions are compared


def grade(
    session: Session,
    fractions: tuple[float, float] | FloatArray,
    *,
    n: int,
    along: Axis = "x",
    shape: tuple[int, int] | None = None,
    phase: str | None = None,
    settings: ControlSettings | None = None,
    strength: float = STRENGTH,
    across: int | None = None,
    wishes: Sequence[Wish] = (),
    labels: Mapping[str, str] | None = None,
    guidance: float = GUIDANCE,
    score: bool = False,
    seed: int = 0,
) -> Adapted:
    """n designs whose phase fractions follow a map, or go from one value to another.

    ``fractions``: the values of one phase at the two edges, or its map (1, h, w) of any
    resolution, stretched over the image; then ``phase`` is by default the second and the others
    share the rest as they do in the library. Or (p - 1, h, w) of all phases but the first.
    ``shape``: (h, w) px. ``across``: px across a gradient over which the fraction is to be met,
    None for the whole side; of a map, px of the windows over which it is, None for 16.
    ``wishes``, ``labels``: what designs shall have besides, of the campaign's own image size;
    ``guidance``: how strongly. The branch is trained when it is first asked for.
    Raises InvalidInputError for fractions outside [0, 1], unknown phases, images that are too
    small, wishes for larger ones; LedgerError when nothing is trained yet.
    """
    flow = trained_flow(session, "graded designs")
    space = session.campaign.space
    if space.image_shape is None or len(space.phases) < 2:
        raise InvalidInputError("a graded microstructure needs images of at least two phases")
    if phase is not None and phase not in space.phases:
        raise InvalidInputError("--phase: " + unknown_name("phase", phase, space.phases))
    shape = shape or space.image_shape
    wanted = _wanted(session, fractions, shape, along, phase)
    phase = phase or space.phases[1]
    if (wishes or labels) and shape != space.image_shape:
        h, w = space.image_shape
        raise InvalidInputError(
            f"--set was given for larger images; properties are known of {w} x {h} px alone: "
            "leave one of the two out"
        )
    rng = stage_rng(session.campaign.seed, "graded", seed, "fit")
    path, branch, trained = _branch(session, flow, settings, rng)
    given: dict[str, Any] = {"shape": shape, "window": _window(fractions, shape, along, across)}
    own = space.image_shape[0] * space.image_shape[1]
    compared = max(n, COMPARED * own // (shape[0] * shape[1]), LEAST_COMPARED)
    rng = stage_rng(session.campaign.seed, "graded", seed, "requests")
    asked = asked_values(compared, wishes, session.properties, rng)
    if wishes or labels:
        requests = flow.with_labels(asked, labels or {})
        given |= {"requests": requests, "guidance": guidance}

    def made(how: float) -> list[Candidate]:
        rng = stage_rng(session.campaign.seed, "graded", seed, "propose")
        settle = SETTLE if how > 0 else 0  # without a map nothing is to be met
        return graded(flow, branch, wanted, compared, rng=rng, strength=how, settle=settle, **given)

    designs, plain = made(strength), made(0.0)
    found, without = (np.stack(images_of(one)) for one in (designs, plain))
    errors = {
        "windows": map_error(found, wanted, WINDOW),
        "windows_unguided": map_error(without, wanted, WINDOW),
        "trend": profile_error(found, wanted, along, WINDOW),
        "trend_unguided": profile_error(without, wanted, along, WINDOW),
    }
    table = _profile(found, without, wanted, space.phases.index(phase), along)
    about = {"phase": phase, "path": str(path), "strength": strength, "errors": errors}
    if "guidance" in given:
        about["guidance"] = guidance
    proposal = dataclasses.replace(
        answer_of(session, flow, designs[:n], about, table, score),
        wishes=tuple(wishes),
        requests=asked[:n],
        warnings=tuple(warnings_for(session, asked)) if wishes else (),
    )
    return Adapted(proposal, table, path, trained)


def _wanted(
    session: Session,
    fractions: tuple[float, float] | FloatArray,
    shape: tuple[int, int],
    along: Axis,
    phase: str | None,
) -> FloatArray:
    """(p - 1, h, w) the map of all phases but the first."""
    phases = session.campaign.space.phases
    if isinstance(fractions, tuple):
        first, last = fractions
        if not (0 <= first <= 1 and 0 <= last <= 1):
            raise InvalidInputError(f"fractions from {first:g} to {last:g}; expected 0 to 1")
        return _shared(session, gradient_map(first, last, shape, along), phase or phases[1])
    if fractions.ndim == 3 and len(fractions) == 1:
        return _shared(session, checked_map(fractions, 2), phase or phases[1])
    if phase is not None:
        raise InvalidInputError("--phase is for the map of one phase; this one has several")
    return checked_map(fractions, len(phases))


def _window(
    fractions: tuple[float, float] | FloatArray,
    shape: tuple[int, int],
    along: Axis,
    across: int | None,
) -> tuple[float, float]:
    """px down and along over which the fractions are to be met."""
    if not isinstance(fractions, tuple):
        side = float(across or WINDOW)
        return side, side
    whole = shape[0] if along == "x" else shape[1]
    side = float(whole if across is None else across)
    return (side, float(WINDOW)) if along == "x" else (float(WINDOW), side)


def _branch(
    session: Session, flow: JointFlow, settings: ControlSettings | None, rng: np.random.Generator
) -> tuple[Path, ControlBranch, bool]:
    """The branch of the present generator, and whether it had to be trained."""
    kept = kept_files(session, flow, BRANCH)
    if kept and settings is None:
        path = next(iter(kept.values()))
        return path, load_branch(flow, path), False
    keep = training_state(session)
    settings = settings or ControlSettings()
    branch = control(flow, settings, rng=rng, progress=session.progress, keep=keep)
    _, path = save_branch(flow, branch, adapters_folder(session), metrics={"steps": settings.steps})
    for old in kept.values():  # one is enough, the one that was asked for last
        if old != path:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)
    keep.clear()
    return path, branch, True


def _shared(session: Session, one: FloatArray, phase: str) -> FloatArray:
    """(p - 1, h, w) from one phase's map (1, h, w); the others keep their shares of the rest."""
    phases = session.campaign.space.phases
    index = phases.index(phase)
    rng = np.random.default_rng(0)
    images = session.library.patches(1024, rng=rng)
    share = np.bincount(images.ravel(), minlength=len(phases)).astype(float)
    share[index] = 0.0
    share /= max(share.sum(), 1.0)
    found = share[:, None, None] * (1.0 - one)
    found[index] = one[0]
    return found[1:]


def _profile(
    found: Labels, without: Labels, wanted: FloatArray, index: int, along: Axis
) -> pd.DataFrame:
    """Requested and found fractions of a phase by places along the gradient."""
    phases = len(wanted) + 1
    wanted = resampled(wanted, (found.shape[1], found.shape[2])).double().numpy()
    asked = np.concatenate([1.0 - wanted.sum(0, keepdims=True), wanted])[index]
    line = asked.mean(0 if along == "x" else 1)

    def means(images: Labels) -> FloatArray:
        maps = fraction_maps(images, phases, WINDOW)
        chosen = (1.0 - maps.sum(1)) if index == 0 else maps[:, index - 1]
        profile: FloatArray = chosen.mean(1 if along == "x" else 2)
        return profile

    ours, plain = means(found), means(without)
    places = ours.shape[1]
    return pd.DataFrame(
        {
            f"{along}_px": [f"{i * WINDOW}-{(i + 1) * WINDOW}" for i in range(places)],
            "requested": line[: places * WINDOW].reshape(places, WINDOW).mean(1),
            "found": ours.mean(0),
            "spread": ours.std(0),
            "unguided": plain.mean(0),
        }
    )
