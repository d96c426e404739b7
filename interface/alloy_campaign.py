"""A campaign that starts from alloys that were measured (``spinodal new DIR --alloys``)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interface.alloy_table import AlloyTable, FloatArray
from loop.campaign import load_campaign
from loop.constraints import AtMost, parse_constraint
from loop.errors import InvalidInputError, SpinodalError
from loop.library import Library
from loop.polytope import CompositionSet
from loop.scaffold import move_into_place, quoted, quoted_list, toml_key
from simulators import registry
from simulators.measured_files import csv_text

PHASE = "alloy"
TABLE, CAMPAIGN = "alloys.csv", "campaign.toml"
GENERATOR = "genetic"
ROUNDS = 5
SMALLEST_LIBRARY = 16
MARGINS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # that are offered where a narrower one excludes all
DECIMALS = 6  # of atomic fractions in the table that is written


@dataclass(frozen=True, slots=True)
class Aim:
    """What a property is to be: maximised, minimised, or between ``low`` and ``high``."""

    wanted: str  # as given: a column's header, or the property's name
    kind: str  # maximise, minimise, range
    low: float = 0.0
    high: float = 0.0


def read_aims(
    maximise: Sequence[str], minimise: Sequence[str], targets: Sequence[str]
) -> list[Aim]:
    """Aims of the command line; ``targets`` as ``PROPERTY=LOW..HIGH``.

    Raises InvalidInputError for none at all, and for what cannot be read.
    """
    aims = [Aim(name, "maximise") for name in maximise]
    aims += [Aim(name, "minimise") for name in minimise]
    for text in targets:
        name, equals, ends = (part.strip() for part in text.rpartition("="))
        matched = re.fullmatch(r"(\S+?)\s*\.\.\s*(\S+)", ends)
        try:
            low, high = (float(matched[1]), float(matched[2])) if matched else (1.0, 0.0)
        except ValueError:
            low, high = 1.0, 0.0
        if not (name and equals and low < high):
            raise InvalidInputError(
                f"--target {text!r}: expected PROPERTY=LOW..HIGH, the lower end first, such as "
                "density_g_per_cm3=6.5..7.5"
            )
        aims.append(Aim(name, "range", low, high))
    if not aims:
        raise InvalidInputError(
            "what shall the alloys reach? Give --maximise PROPERTY, --minimise PROPERTY or "
            "--target PROPERTY=LOW..HIGH, each as often as needed"
        )
    return aims


def new_from_alloys(
    folder: Path,
    table: AlloyTable,
    aims: Sequence[Aim],
    *,
    constraints: Sequence[str] = (),
    margin: float = 0.1,
    batch: int = 10,
    seed: int = 1,
) -> Path:
    """Write ``folder/campaign.toml`` and ``folder/alloys.csv``; returns the former.

    ``aims``: of the table's properties, in their order. ``constraints``: on new alloys, in words;
    without one of the kind, new alloys have at most as many elements as the table's. ``margin``:
    bounds of an element are those of the table, widened on both sides by this share of their width.
    All is checked as a run would before anything appears; nothing is ever replaced. Raises
    InvalidInputError or InvalidCampaignError.
    """
    folder = folder.resolve()
    for name in (TABLE, CAMPAIGN):
        if (folder / name).exists():
            raise InvalidInputError(
                f"{folder / name} exists and is not replaced; give another folder, or remove it"
            )
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file; give a new folder for the campaign")
    most = int((table.compositions > 0).sum(1).max())
    kept = list(constraints)
    if most < len(table.elements) and not any(
        isinstance(parse_constraint(text), AtMost) for text in kept
    ):
        kept.append(AtMost(most).text)
    _check_within_bounds(table, kept, margin)
    text = _campaign_text(folder.name, table, aims, kept, margin, batch, seed)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-campaign-") as name:
            draft = Path(name)
            (draft / TABLE).write_text(_table_text(table), encoding="utf-8")
            (draft / CAMPAIGN).write_text(text, encoding="utf-8")
            try:
                _check(draft)
            except SpinodalError as error:
                raise type(error)(str(error).replace(str(draft), str(folder))) from None
            move_into_place(draft, folder, (TABLE, CAMPAIGN))
    except OSError as error:
        raise InvalidInputError(
            f"cannot write the campaign {folder}: {error.strerror or error}; "
            "check the place and its free space"
        ) from None
    return folder / CAMPAIGN


def _check_within_bounds(table: AlloyTable, constraints: Sequence[str], margin: float) -> None:
    """Refuse constraints that only the bounds exclude, which nobody wrote: the table gave them."""
    CompositionSet.of(table.elements, constraints)  # what excludes itself is told as it is

    def conflict(width: float) -> str | None:
        bounds = [f"{low} <= {e} <= {high}" for e, low, high in _bounds(table, width)]
        try:
            CompositionSet.of(table.elements, [*constraints, *bounds])
        except InvalidInputError as error:
            return str(error)
        return None

    told = conflict(margin)
    if told is None:
        return
    wide = next((m for m in MARGINS if m > margin and conflict(m) is None), None)
    raise InvalidInputError(
        f"{told}. The bounds of elements are those of the table, widened by --margin {margin:g}: "
        + (
            f"--margin {wide:g} allows it, if that is meant"
            if wide is not None
            else "none allows it, the table has no alloys near; change the constraint"
        )
    )


def _check(draft: Path) -> None:
    campaign = load_campaign(draft)
    Library.load(campaign)
    for name in campaign.simulators.use:
        settings = campaign.simulators.settings[name]
        registry.create(name, space=campaign.space, settings=settings, folder=campaign.folder)


def _table_text(table: AlloyTable) -> str:
    columns = [f"{PHASE}:{element}" for element in table.elements]
    properties = [c for name in table.units for c in (name, f"{name}_uncertainty")]
    rows = [["name", *columns, *table.labels, *properties, "lines"]]
    for i, x in enumerate(table.compositions):
        pairs = zip(table.values[i], table.uncertainty[i], strict=True)
        found = [_figure(number) for pair in pairs for number in pair]
        shares = [f"{v:.{DECIMALS}f}".rstrip("0").rstrip(".") if v else "0" for v in x]
        labels = [texts[i] for texts in table.labels.values()]
        lines = "; ".join(map(str, table.lines[i]))
        rows.append([table.names[i], *shares, *labels, *found, lines])
    return csv_text(rows)


def _figure(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


def _campaign_text(
    folder: str,
    table: AlloyTable,
    aims: Sequence[Aim],
    constraints: Sequence[str],
    margin: float,
    batch: int,
    seed: int,
) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder).strip("-_.") or "campaign"
    n = len(table.compositions)
    source = " ".join(table.path.name.split())
    outputs = ", ".join(f"{toml_key(k)} = {quoted(unit)}" for k, unit in table.units.items())
    lines = [
        f"# The next alloys to make, from {n} that were measured ({TABLE}, from {source}).",
        "# These are known at the start and cost nothing; new ones are proposed in rounds, and",
        "# people are asked to make and measure them.",
        "",
        "[campaign]",
        f"name = {quoted(name)}",
        f"seed = {seed}  # the same seed on the same machine gives the same proposals",
        "",
        "[space]",
        f"phases = {quoted_list([PHASE])}",
        *_wrapped("elements", table.elements),
        "# What every new alloy keeps to. Others are such as 'Ni + Co >= 0.5', 'Ni:Al = 3:1' or",
        "# 'Re <= 0.02', in atomic fractions.",
        f"constraints = {quoted_list(constraints)}",
        "",
        "# Lowest and highest atomic fraction of each element in a new alloy: those of the table,",
        f"# widened by {100 * margin:g} % of their width. [0.0, 0.0] keeps an element out.",
        f"[space.bounds.{PHASE}]",
        *(f"{e} = [{low}, {high}]" for e, low, high in _bounds(table, margin)),
        *(["", "[space.labels]"] if table.labels else []),
        *(
            f"{toml_key(label)} = {quoted_list(list(dict.fromkeys(texts)))}"
            for label, texts in table.labels.items()
        ),
        "",
        "[compositions]",
        f"file = {quoted(TABLE)}",
        "",
        "[simulators]",
        'use = ["measured"]',
        "",
        "[simulators.settings.measured]",
        f"outputs = {{ {outputs} }}",
        f"table = {quoted(TABLE)}",
        'otherwise = "ask"  # what the table does not hold is asked of people (spinodal ask, tell)',
        "",
        "# What a new alloy shall reach; one that meets all of it is a hit. Each is one of",
        "#   range = [low, high]          value = 12.0 with tolerance = 0.1",
        "#   maximise = true              minimise = true",
    ]
    for target, text in zip(table.units, _targets(table, aims), strict=True):
        lines += [f"[targets.{toml_key(target)}]", *text, ""]
    lines += [
        "# Children of the best alloys; a Gaussian process of all results picks those to make.",
        "# 'bayesian' searches all that is allowed, far from known alloys as well.",
        "[generator]",
        f"name = {quoted(GENERATOR)}",
        "",
        "[loop]",
        f"rounds = {ROUNDS}",
        f"batch = {batch}  # alloys to make in a round",
        f"seeds = {n}  # all alloys of the table",
        f"library = {max(n, SMALLEST_LIBRARY)}",
        "control_arms = []  # alloys of other methods would have to be made as well",
        "guidance = [1.0]",
    ]
    return "\n".join(lines) + "\n"


def _wrapped(key: str, names: Sequence[str]) -> list[str]:
    """``key = ["A", "B"]``, on several lines where it is long."""
    text = f"{key} = {quoted_list(names)}"
    if len(text) <= 100:
        return [text]
    parts = [", ".join(map(quoted, names[i : i + 15])) for i in range(0, len(names), 15)]
    return [f"{key} = [", *(f"    {part}," for part in parts), "]"]


def _bounds(table: AlloyTable, margin: float) -> list[tuple[str, float, float]]:
    low, high = table.compositions.min(0), table.compositions.max(0)
    width = margin * (high - low)
    low = np.floor(np.clip(low - width, 0.0, 1.0) * 1000) / 1000
    high = np.ceil(np.clip(high + width, 0.0, 1.0) * 1000) / 1000
    return list(zip(table.elements, low.tolist(), high.tolist(), strict=True))


def _targets(table: AlloyTable, aims: Sequence[Aim]) -> list[list[str]]:
    """The lines of each target.

    What is to be improved has the table's best as what a hit must reach; of several, whose bests
    are hardly found together, its best quarter.
    """
    y = table.values
    objectives = [j for j, aim in enumerate(aims) if aim.kind != "range"]
    meeting = np.ones(len(y), dtype=bool)
    for j, aim in enumerate(aims):
        if aim.kind == "range":
            meeting &= (y[:, j] >= aim.low) & (y[:, j] <= aim.high)
    found = []
    for j, aim in enumerate(aims):
        if aim.kind == "range":
            found.append([f"range = [{aim.low!r}, {aim.high!r}]"])
            continue
        up = aim.kind == "maximise"
        values: FloatArray = y[meeting, j] if meeting.any() else y[:, j]
        best, what = float(values.max() if up else values.min()), "the best"
        if len(objectives) > 1:
            best, what = float(np.quantile(values, 0.75 if up else 0.25)), "the best quarter"
        spread = float(y[:, j].std()) or 1.0
        found.append(
            [
                f"{aim.kind} = true",
                f"{'at_least' if up else 'at_most'} = {best:.6g}  # {what} of the table",
                f"scale = {spread:.3g}  # differences count in this unit: the table's scatter",
            ]
        )
    return found
