"""The page of one visitor: state, rounds, targets, requested against simulated, gallery."""

from __future__ import annotations

import math
from urllib.parse import quote

from nicegui import run, ui

from interface.dashboard_charts import ROUND_PANELS, arm_legend, requested_chart, rounds_chart
from interface.dashboard_data import Snapshot, Snapshots
from interface.dashboard_detail import candidate_view
from interface.dashboard_gallery import Gallery
from interface.dashboard_laboratory import LaboratoryPanel
from interface.dashboard_style import FAVICON, add_style, legend, tag, text
from interface.dashboard_values import chart_points
from interface.labels import arm_label, format_number, property_label
from interface.views import Against, state_text, target_shares
from interface.views_candidates import candidate_detail
from loop.errors import SpinodalError
from loop.ledger import Ledger

REFRESH_SECONDS = 3.0
DOTS = {
    "finished": "finished", "in progress": "running", "waiting": "stopped",
    "not finished": "stopped",
}  # fmt: skip


class Page:
    """Built for one visitor; follows the ledger while the browser keeps the page open."""

    def __init__(
        self,
        ledger: Ledger,
        snapshots: Snapshots,
        snapshot: Snapshot,
        *,
        takes_results: bool = True,
    ) -> None:
        self._ledger = ledger
        self._snapshots = snapshots
        self._snapshot = snapshot
        self._takes_results = takes_results
        self._laboratory: LaboratoryPanel | None = None

    def build(self) -> None:
        """Lay out the whole page in the current client."""
        add_style()
        ui.page_title(f"{self._snapshot.info.name} · spinodal")
        with tag("header", "sp-top"), tag("div", "sp-bar"):
            self._bar()
        with tag("main", "sp-main"):
            self._trouble = text("", "sp-note").props('role="alert"')
            self._trouble.visible = False
            self._header()
            self._tiles = tag("div", "sp-tiles")
            if self._snapshot.work is not None:
                self._laboratory = LaboratoryPanel(
                    self._ledger, self._snapshot.work, self.show, self._follow,
                    takes_results=self._takes_results,
                )  # fmt: skip
            self._rounds_panel()
            with tag("div", "sp-two"):
                self._requested_panel()
                with tag("div", "sp-column"):
                    with tag("section", "sp-panel"):
                        with tag("div", "sp-panel-head"):
                            text("Targets", "", "h2")
                        self._targets = tag("div", "sp-scroll")
                    with tag("section", "sp-panel"):
                        with tag("div", "sp-panel-head"):
                            text("Hits by round", "", "h2")
                        self._hits = tag("div", "sp-scroll")
            self._gallery = Gallery(self._ledger, self._snapshot, self.show)
        self._dialog = ui.dialog()
        self._draw()
        ui.timer(REFRESH_SECONDS, self._follow)
        ui.timer(0.01, self._gallery.refresh, once=True)

    def _bar(self) -> None:
        with tag("a", "sp-key sp-link").props('href="/"'):
            ui.html(FAVICON, sanitize=False).classes("sp-logo")
            text("spinodal", "sp-word", "span").style("color: var(--ink)")
        tag("div", "sp-fill")
        ui.select(
            list(self._snapshot.names), value=self._snapshot.info.name, label="campaign",
            on_change=lambda e: ui.navigate.to(f"/?campaign={quote(str(e.value), safe='')}"),
        ).props("outlined dense options-dense").classes("sp-choice")  # fmt: skip
        text("HTTP API", "sp-link", "a").props('href="/docs" target="_blank" rel="noopener"')

    def _header(self) -> None:
        with tag("div"):
            with tag("div", "sp-head"):
                text(self._snapshot.info.name, "", "h1")
                self._state = text("", "sp-state", "span")
            if self._snapshot.description:
                text(self._snapshot.description, "sp-muted")

    def _rounds_panel(self) -> None:
        with tag("section", "sp-panel"):
            with tag("div", "sp-panel-head"):
                text("Rounds", "", "h2")
                self._legend = tag("div")
            with tag("div", "sp-charts"):
                self._round_charts = []
                for _, title, _ in ROUND_PANELS:
                    with tag("div"):
                        text(title, "sp-chart-title")
                        self._round_charts.append(ui.echart({}).classes("sp-chart"))

    def _requested_panel(self) -> None:
        columns = self._snapshot.columns
        properties = {name: property_label(name) for name in columns.properties}
        first = next(iter(columns.requested or columns.predicted or columns.properties), None)
        against = "requested" if columns.requested or not columns.predicted else "predicted"
        with tag("section", "sp-panel sp-grow"):
            with tag("div", "sp-panel-head"):
                self._heading = text("", "", "h2")
                tag("div", "sp-fill")
                self._against = ui.toggle(
                    {"requested": "requested", "predicted": "predicted"},
                    value=against, on_change=self._draw_requested,
                ).props("dense no-caps unelevated toggle-color=primary")  # fmt: skip
                self._against.props('size=12px padding="3px 12px"')
                self._property = ui.select(
                    properties, value=first if first in properties else None,
                    label="property", on_change=self._draw_requested,
                ).props("outlined dense options-dense").classes("sp-choice")  # fmt: skip
            chart = ui.echart({}, on_point_click=lambda e: self._clicked(e.data))
            self._requested = chart.classes("sp-square")
            self._no_requested = text("", "sp-muted")

    async def _clicked(self, data: object) -> None:
        value = data.get("value") if isinstance(data, dict) else None
        if isinstance(value, list) and len(value) == 3:
            await self.show(str(value[2]))

    async def _follow(self) -> None:
        """Draw again when the ledger has something new; always say how old the newest entry is."""
        try:
            snapshot = await run.io_bound(self._snapshots.get, self._snapshot.info.name)
        except SpinodalError as error:
            self._trouble.text = str(error)
            self._trouble.visible = True
            return
        if snapshot is None:  # the server stops
            return
        self._trouble.visible = False
        if snapshot.frame != self._snapshot.frame:
            ui.navigate.reload()
        elif snapshot.stamp != self._snapshot.stamp:
            self._snapshot = snapshot
            self._draw()
            await self._gallery.refresh_from(snapshot)
        self._draw_state()

    def _draw(self) -> None:
        self._draw_state()
        self._draw_tiles()
        if self._laboratory is not None and self._snapshot.work is not None:
            self._laboratory.draw(self._snapshot.work)
        self._draw_rounds()
        self._draw_requested()
        self._draw_targets()
        self._draw_hits()

    def _draw_state(self) -> None:
        info = self._snapshot.info
        self._state.text = state_text(info)
        self._state.classes(DOTS[info.state], remove=" ".join(DOTS.values()))

    def _draw_tiles(self) -> None:
        info, rounds = self._snapshot.info, self._snapshot.rounds
        newest = rounds[(rounds["arm"] == "loop") & (rounds["evaluated"] > 0)].tail(1)
        rate = float(newest["hit_rate"].iloc[0]) if len(newest) else math.nan
        best = float(rounds.loc[rounds["arm"].isin(["seed", "loop"]), "best_distance"].min())
        last = rounds.groupby("arm")["distinct_hits_total"].max()
        controls = [a for a in info.arms if a not in ("seed", "loop")]
        others = ", ".join(f"{arm_label(a)} {int(last[a])}" for a in controls)
        tiles = (
            ("Round", str(info.round), f"of {info.rounds}" if info.rounds else ""),
            ("Evaluated", str(info.evaluations), f"of {info.planned} planned, seeds included"),
            ("Different hits", str(info.hits), others or "generative loop"),
            (
                "Hit rate",
                f"{100 * rate:.0f} %" if math.isfinite(rate) else "–",
                f"loop, round {int(newest['round'].iloc[0])}" if len(newest) else "",
            ),
            ("Best distance", format_number(best), "in tolerances; 0 meets all targets"),
        )
        self._tiles.clear()
        with self._tiles:
            for label, value, more in tiles:
                with tag("div", "sp-tile"):
                    text(label, "label")
                    text(value, "value")
                    text(more, "more")

    def _draw_rounds(self) -> None:
        self._legend.clear()
        with self._legend:
            legend(arm_legend(self._snapshot.info.arms))
        for chart, (column, _, unit) in zip(self._round_charts, ROUND_PANELS, strict=True):
            _set(chart, rounds_chart(self._snapshot.rounds, column, unit))

    def _draw_requested(self) -> None:
        against: Against = "predicted" if self._against.value == "predicted" else "requested"
        name, columns = self._property.value, self._snapshot.columns
        found_by = self._found_by(str(name))
        self._heading.text = f"{against.capitalize()} against {found_by}"
        known = columns.requested if against == "requested" else columns.predicted
        self._requested.visible = name in known
        self._no_requested.visible = name not in known
        if name not in known:
            of = f" of {property_label(str(name))}" if name else ""
            self._no_requested.text = f"No design on record has a {against} value{of} yet."
            return
        points = chart_points(self._snapshot, str(name), against)
        target = next((t for t in self._snapshot.targets if t.name == name), None)
        options = requested_chart(points, str(name), target, against, found_by)
        _set(self._requested, options)

    def _found_by(self, name: str) -> str:
        """How the values of a property on record were found, in one word."""
        kinds = self._snapshot.fidelities.get(name, {"simulated"})
        return next(iter(kinds)) if len(kinds) == 1 else "found"

    def _draw_targets(self) -> None:
        info = self._snapshot.info
        shares = target_shares(self._snapshot.evaluations, self._snapshot.targets)
        self._targets.clear()
        with self._targets, tag("table", "sp-table"):
            with tag("tr"):
                text("property", "left", "th")
                text("target", "", "th")
                for arm in info.arms:
                    text(arm_label(arm), "", "th")
            for target in info.targets:
                with tag("tr"):
                    text(target.label, "left", "td")
                    with tag("td", "strong"):
                        text(target.text, name="span")
                        text(f" {target.unit}", "unit", "span")
                    for arm in info.arms:
                        share = shares.get(target.property, {}).get(arm)
                        text("–" if share is None else f"{100 * share:.0f} %", "", "td")
            text("Share of each arm’s scored designs that meet the target; a hit meets all at once",
                 "sp-muted sp-small", "caption")  # fmt: skip

    def _draw_hits(self) -> None:
        rounds = self._snapshot.rounds
        arms = list(dict.fromkeys(rounds["arm"]))
        cells = {(row["arm"], row["round"]): row for row in rounds.to_dict(orient="records")}
        self._hits.clear()
        with self._hits, tag("table", "sp-table"):
            with tag("tr"):
                text("round", "left", "th")
                for arm in arms:
                    text(arm_label(arm), "", "th")
            for number in sorted(set(rounds["round"])):
                with tag("tr"):
                    text(str(number), "left", "td")
                    for arm in arms:
                        row = cells.get((arm, number))
                        with tag("td"):
                            if row is not None:
                                text(str(row["hits"]), "strong", "span")
                                text(f" of {row['evaluated']}", "unit", "span")
            text("Hits of evaluated designs", "sp-muted sp-small", "caption")

    async def show(self, candidate_id: str) -> None:
        """Open one candidate over the page."""
        try:
            detail = await run.io_bound(candidate_detail, self._ledger, candidate_id)
        except SpinodalError as error:
            ui.notify(str(error), type="negative", close_button="close")
            return
        if detail is None:  # the server stops
            return
        self._dialog.clear()
        with self._dialog, tag("div", "sp-dialog"):
            candidate_view(detail, self._snapshot.targets, self._dialog.close)
        self._dialog.open()


def _set(chart: ui.echart, options: dict[str, object]) -> None:
    chart.options.clear()
    chart.options.update(options)
    chart.update()
