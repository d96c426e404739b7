"""The laboratory on the page: what is to be measured, its list to take away, results to send in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from nicegui import events, run, ui

from interface.api_laboratory import LARGEST_BODY
from interface.dashboard_style import tag, text
from interface.labels import (
    format_uncertain,
    fractions_text,
    phase_label,
    property_label,
    short_id,
    treatment_text,
)
from interface.laboratory import deviations_of, tell_csv
from interface.models import WantedInfo, WorkItem, WorkList
from loop.errors import SpinodalError
from loop.laboratory import counted
from loop.ledger import Ledger

SHOWN = 50  # designs; the list that is taken away has all


class LaboratoryPanel:
    """Built into the current element; ``draw`` shows another state of the work list.

    ``show`` opens a design, ``follow`` looks at the ledger again.
    """

    def __init__(
        self,
        ledger: Ledger,
        work: WorkList,
        show: Callable[[str], Awaitable[None]],
        follow: Callable[[], Awaitable[None]],
        *,
        takes_results: bool,
    ) -> None:
        self._ledger = ledger
        self._name = work.campaign
        self._show = show
        self._follow = follow
        with tag("section", "sp-panel"):
            with tag("div", "sp-panel-head"):
                text("Laboratory", "", "h2")
                self._state = text("", "sp-muted", "span")
                tag("div", "sp-fill")
                url = f"/api/campaigns/{quote(work.campaign, safe='')}/work?format=csv"
                text("Work list (CSV)", "sp-link sp-small", "a").props(f'href="{url}" download')
            self._table = tag("div", "sp-scroll")
            self._told = text("", "sp-small").props('role="status"')
            if takes_results:
                self._upload()
            else:
                text(
                    "Results are taken where the server answers on loopback alone, or by "
                    "`spinodal tell`.", "sp-muted sp-small",
                )  # fmt: skip

    def _upload(self) -> None:
        with tag("div", "sp-options").style("margin-top: 10px"):
            self._replace = ui.checkbox("replace what was told before").props("dense size=sm")
            self._replace.classes("sp-small")
        self._files = ui.upload(
            label="Results (CSV): the work list filled in",
            on_upload=self._received,
            on_rejected=lambda: self._say("That file is no CSV file or too large.", bad=True),
            max_file_size=LARGEST_BODY,
            auto_upload=True,
        )
        self._files.props('accept=".csv,text/csv" flat bordered').classes("sp-upload")

    async def _received(self, event: events.UploadEventArguments) -> None:
        data = await event.file.read()
        self._files.reset()
        replace = bool(self._replace.value)
        try:
            told = await run.io_bound(
                tell_csv,
                self._ledger,
                self._ledger.campaign_id(self._name),
                data,
                event.file.name,
                replace=replace,
            )
        except SpinodalError as error:
            self._say(f"Nothing was kept. {error}", bad=True)
            return
        if told is None:  # the server stops
            return
        more = "" if told.open else f". Go on with: spinodal resume {self._name}"
        self._say(f"{told.text}{more}", bad=False)
        await self._follow()

    def _say(self, said: str, *, bad: bool) -> None:
        self._told.text = said
        self._told.classes("sp-note" if bad else "", remove="" if bad else "sp-note")

    def draw(self, work: WorkList) -> None:
        """Show a state of the work list."""
        designs = len(work.items)
        self._state.text = (
            f"asked for: {counted(work.open, 'measurement')} of {counted(designs, 'design')}"
            if work.open
            else "nothing is asked for; all results have been told"
        )
        self._table.clear()
        if not designs:
            return
        with self._table, tag("table", "sp-table"):
            with tag("tr"):
                of_what = _of_what(work)
                columns = ["design", "waits for it", "to make, at.%", "to measure"]
                for name in columns + ["expected"] * bool(of_what):
                    text(name, "left", "th")
            for item in work.items[:SHOWN]:
                self._row(item, expected=bool(of_what))
            notes = [f"± is one standard deviation of {of_what}"] * bool(of_what)
            if designs > SHOWN:
                notes.append(f"The first {SHOWN} of {designs}; the list to take away has all")
            if notes:
                text(". ".join(notes), "sp-muted sp-small", "caption")

    def _row(self, item: WorkItem, *, expected: bool) -> None:
        phases = item.phase_compositions or {}
        made = [f"{phase_label(p)} {fractions_text(x)}" for p, x in phases.items()]
        made += [f"{name} {value}" for name, value in treatment_text(item.process, item.labels)]
        with tag("tr"):
            with tag("td", "left"):
                link = text(short_id(item.id), "sp-link sp-id", "a").props('href="#" role="button"')
                link.on("click.prevent", lambda _, id_=item.id: self._show(id_))
            text(", ".join(item.rounds), "left", "td")
            text("; ".join(made) or "as in the picture", "left", "td")
            text("; ".join(_wanted(w) for w in item.measure), "left", "td")
            if expected:
                text("; ".join(_expected(w) for w in item.measure), "left", "td")


def _wanted(wanted: WantedInfo) -> str:
    label = property_label(wanted.property)
    # A property's name may say nothing of its unit.
    if wanted.unit != "1" and "(" not in label:
        label += f" ({wanted.unit})"
    if wanted.value is None:
        return label
    told = format_uncertain(wanted.value, wanted.uncertainty)
    return f"{label}: told, {told}"


def _expected(wanted: WantedInfo) -> str:
    return format_uncertain(wanted.expected, wanted.expected_std) or "–"


def _of_what(work: WorkList) -> str:
    """What the deviations of a list's expectations are of; "" where nothing is expected."""
    known = [w for item in work.items for w in item.measure if w.expected is not None]
    if not known:
        return ""
    return deviations_of(w.expected_noise for w in known)
