"""The gallery: a filter in the words of the command line, and a card for each design."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from nicegui import run, ui

from interface.dashboard_data import Snapshot
from interface.dashboard_detail import picture_scale, verdict
from interface.dashboard_style import mark, phase_legend, picture, tag, text
from interface.dashboard_values import OF_ITSELF, kind_of, value_text
from interface.labels import (
    fractions_text,
    property_label,
    short_id,
    split_property,
    target_met,
)
from interface.models import CandidateRow
from interface.views_candidates import Columns, Designs, distinct_designs
from loop.errors import SpinodalError
from loop.ledger import Ledger
from loop.measuring import SIMULATED_PREFIX
from loop.targets import Target, Targets

SIZES = (12, 24, 48, 96)
PREDICTED = "predicted"
CARD_SIDE = 256  # px that a card's picture is drawn with at least


class Gallery:
    """Filter box, options and cards of one visitor. ``show`` opens a candidate by id."""

    def __init__(
        self, ledger: Ledger, snapshot: Snapshot, show: Callable[[str], Awaitable[None]]
    ) -> None:
        self._ledger = ledger
        self._name = snapshot.info.name
        self._targets = snapshot.targets
        self._shape = snapshot.image_shape
        self._kinds = snapshot.fidelities
        self._show = show
        self._asked = 0
        with tag("section", "sp-panel"):
            with tag("div", "sp-panel-head"):
                text("Candidates", "", "h2")
                self._count = text("", "sp-muted sp-small")
                tag("div", "sp-fill")
                phase_legend(snapshot.phases)
            with tag("div", "sp-filter"):
                self._filter = self._filter_box(snapshot.columns)
                self._options(snapshot.columns)
            self._cards = tag("div", "sp-gallery")

    def _filter_box(self, columns: Columns) -> ui.input:
        example = self._targets.properties[0]
        box = ui.input(
            placeholder=f"hit and {example} > {_example(self._targets)}",
            on_change=self.refresh,
        ).props('outlined dense clearable debounce=350 aria-label="filter" spellcheck=false')
        with box.add_slot("append"):
            button = ui.button(icon="help_outline")
            button.props('flat round dense size=sm aria-label="fields and grammar"')
            with button, ui.menu(), tag("div", "sp-fields"):
                _grammar(columns)
        return box

    def _options(self, columns: Columns) -> None:
        sortable = {
            "distance": "distance to target",
            "round": "round",
            **{name: property_label(name) for name in columns.properties},
        }
        with tag("div", "sp-options"):
            self._sort = ui.select(
                sortable, value="distance", label="sort by", on_change=self.refresh
            ).props("outlined dense options-dense")
            self._sort.style("min-width: 190px")
            self._descending = ui.select(
                {False: "smallest first", True: "largest first"},
                value=False, label="order", on_change=self.refresh,
            ).props("outlined dense options-dense")  # fmt: skip
            self._size = ui.select(
                {n: str(n) for n in SIZES}, value=24, label="show", on_change=self.refresh
            ).props("outlined dense options-dense")
            self._size.style("min-width: 86px")
            self._hits_only = ui.switch("hits only", on_change=self.refresh).props("dense")

    async def refresh_from(self, snapshot: Snapshot) -> None:
        """As ``refresh``, of a newer state of the campaign."""
        self._kinds = snapshot.fidelities
        await self.refresh()

    async def refresh(self) -> None:
        """Read the ledger again with the current filter and draw the cards."""
        self._asked += 1
        asked = self._asked
        try:
            found: Designs | None = await run.io_bound(
                distinct_designs,
                self._ledger,
                self._name,
                where=str(self._filter.value or ""),
                hits_only=bool(self._hits_only.value),
                sort=str(self._sort.value),
                descending=bool(self._descending.value),
                limit=int(self._size.value or SIZES[0]),
            )
        except SpinodalError as error:
            if asked == self._asked:
                self._filter.error = str(error)
                self._cards.classes("sp-stale")
            return
        if found is None or asked != self._asked:  # the server stops, or a newer question is out
            return
        self._filter.error = None
        self._draw(found)

    def _draw(self, found: Designs) -> None:
        shown, total = len(found.rows), found.total
        self._count.text = (
            f"{shown} distinct designs shown, {total} evaluations match"
            if total
            else "no design matches; widen the filter"
        )
        self._cards.classes(remove="sp-stale")
        self._cards.clear()
        with self._cards:
            for row in found.rows:
                card = tag("button", "sp-card").props(f'type="button" data-id="{row.id}"')
                card.on("click", lambda _event, id_=row.id: self._show(id_))
                with card:
                    self._card(row)

    def _card(self, row: CandidateRow) -> None:
        if self._shape is not None:
            picture(row.id, picture_scale(self._shape, CARD_SIDE))
        with tag("div", "sp-card-body"):
            with tag("div", "sp-card-head"):
                text(short_id(row.id), "sp-id", "span")
                kind = "met" if row.hit else "sp-muted" if row.status == "pending" else "missed"
                text(verdict(row.status, row.hit, row.distance), f"{kind} strong", "span")
            kinds = self._kinds_of(row)
            one = len(set(kinds.values())) == 1  # said once, below
            for target in self._targets:
                if target.name in kinds:
                    self._property(row, target, kinds[target.name], said=one)
            if row.status != "ok" and row.reason:
                text(row.reason, "sp-muted sp-clip")
            if composition := overall(row):
                most = None if self._shape is None else 4
                text(f"{fractions_text(composition, most=most)} at.%", "sp-composition")
            where = [f"round {row.round}", row.arm, *(set(kinds.values()) if one else ())]
            text(", ".join(filter(None, where)), "sp-muted")
            if row.status == "pending" and row.predicted_std:
                text(OF_ITSELF, "sp-muted")

    def _kinds_of(self, row: CandidateRow) -> dict[str, str]:
        """Of each target whose value is shown: simulated or measured, predicted while it waits."""
        names = self._targets.properties
        if row.status == "pending":
            return {name: PREDICTED for name in names if name in row.predicted}
        if row.status != "ok":
            return {}
        return {
            name: kind_of(
                name, self._kinds, row.fidelity, twice=SIMULATED_PREFIX + name in row.properties
            )
            for name in names
        }

    def _property(self, row: CandidateRow, target: Target, kind: str, *, said: bool) -> None:
        name = target.name
        label, unit = split_property(name)
        waits = kind == PREDICTED
        value = (row.predicted if waits else row.properties).get(name)
        uncertainty = (row.predicted_std if waits else row.uncertainty).get(name)
        with tag("div", "sp-row"):
            mark(None if waits else target_met(target, value))
            named = label if said or not kind else f"{label}, {kind}"
            text(named, "name", "span").props["title"] = f"{property_label(name)}, {kind}"
            with tag("span", "number"):
                text(value_text(value, uncertainty, target), name="span")
                text(f" {unit}", "unit", "span")


def overall(row: CandidateRow) -> dict[str, float]:
    """Element -> overall atomic fraction of a design; empty where it is not known."""
    found = {k.removeprefix("x_"): x for k, x in row.design.items() if k.startswith("x_")}
    return {element: x for element, x in found.items() if x is not None}


def _example(targets: Targets) -> str:
    target = next(iter(targets))
    middle = target.low if abs(target.low) < 1e300 else target.high
    return f"{middle:.4g}" if abs(middle) < 1e300 else "0"


def _grammar(columns: Columns) -> None:
    text("Filter", "strong")
    text("Comparisons (< <= > >= = != ~, between … and …, in (…)) joined by and, or, not. "
         "Text goes in quotes; ~ means starts with.")  # fmt: skip
    groups: Mapping[str, tuple[str, ...]] = {
        "Properties": columns.properties,
        "Asked and predicted": (
            *(f"requested_{n}" for n in columns.requested),
            *(f"predicted_{n}" for n in columns.predicted),
            *(f"predicted_std_{n}" for n in columns.predicted_std),
        ),
        "Design": (*columns.design, *columns.labels),
        "Evaluation": ("hit", "distance", "arm", "round", "status", "source", "guidance", "id"),
    }
    for name, fields in groups.items():
        if fields:
            text(name, "strong")
            text(", ".join(fields), "sp-code sp-muted")
