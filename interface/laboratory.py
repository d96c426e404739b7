"""The laboratory's side of a ledger: its work list, and the results that it sends in."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from interface.models import ResultIn, ToldInfo, WantedInfo, WorkItem, WorkList
from interface.views import finite
from interface.views_candidates import phase_compositions
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.laboratory import Expected, Measurement, Told, Work, counted
from loop.ledger import Ledger
from simulators.measured_files import (
    Rows,
    csv_text,
    parse_rows,
    png_bytes,
    read_rows,
    write_whole,
)
from simulators.measured_work import Located, full_id, image_file, read_results, work_text

# Columns of a work list that say what is expected; they are passed over when it comes back.
EXPECTED, EXPECTED_STD = "expected_", "expected_std_"

Expectations = Mapping[str, Mapping[str, Expected]]  # design id -> property -> what is expected


def image_url(candidate: Candidate) -> str:
    """Where the server has the phase labels of a design, pixel for pixel."""
    return f"/api/candidates/{candidate.id}/image.png?scale=1"


def work_list(ledger: Ledger, campaign: int) -> WorkList:
    """What people are asked to measure. Raises LedgerError for an unknown campaign."""
    frame = ledger.campaigns().set_index("id")
    work = ledger.work(campaign)
    found = expectations(ledger, campaign, work)
    return WorkList(
        campaign=str(frame.loc[campaign, "name"]),
        waiting=ledger.waiting(campaign),
        open=sum(len(w.open) for w in work),
        items=[_item(w, found.get(w.candidate.id, {})) for w in work],
    )


def _item(work: Work, expected: Mapping[str, Expected]) -> WorkItem:
    candidate = work.candidate
    return WorkItem(
        id=candidate.id,
        rounds=[f"{arm} {round_}" for arm, round_ in work.rounds],
        phase_compositions=phase_compositions(candidate),
        process=dict(candidate.process),
        labels=dict(candidate.labels),
        image=None if candidate.microstructure is None else image_url(candidate),
        measure=[
            WantedInfo(
                property=name,
                unit=wanted.unit,
                low=finite(wanted.low),
                high=finite(wanted.high),
                value=None if name in work.open else work.told[name].value,
                uncertainty=None if name in work.open else work.told[name].uncertainty,
                expected=expected[name].mean if name in expected else None,
                expected_std=expected[name].std if name in expected else None,
                expected_noise=expected[name].noise if name in expected else None,
            )
            for name, wanted in work.wanted.items()
        ],
    )


def work_csv(ledger: Ledger, campaign: int) -> str:
    """The open work list as the server hands it out: pictures are paths of the server's."""
    work = ledger.work(campaign)
    return _with_expected(work_text(work, image_url), work, expectations(ledger, campaign, work))


def write_work(work: Sequence[Work], path: Path, expected: Expectations | None = None) -> int:
    """Write a work list and, in ``images`` beside it, its pictures; returns how many of these.

    ``expected``: adds columns expected_PROPERTY and expected_std_PROPERTY. The list comes last
    and whole. Raises InvalidInputError where it cannot be written.
    """
    pictures = [w.candidate for w in work if w.candidate.microstructure is not None]
    for candidate in pictures:
        write_whole(path.parent / image_file(candidate), png_bytes(candidate))
    write_whole(path, _with_expected(work_text(work), work, expected or {}))
    return len(pictures)


def _with_expected(text: str, work: Sequence[Work], expected: Expectations) -> str:
    """A work list as CSV with what is expected in its last columns, of properties that have any."""
    units = {name: wanted.unit for w in work for name, wanted in w.wanted.items()}
    header, *rows = csv.reader(io.StringIO(text))
    for name, unit in units.items():
        mark = "" if unit == "1" else f" [{unit}]"
        columns = [f"{EXPECTED}{name}{mark}", f"{EXPECTED_STD}{name}{mark}"]
        known = any(name in expected.get(w.candidate.id, {}) for w in work)
        if not known or not set(columns).isdisjoint(header):  # something else may be called so
            continue
        header += columns
        for row, w in zip(rows, work, strict=True):
            found = expected.get(w.candidate.id, {}).get(name)
            row += ["", ""] if found is None else [f"{found.mean:.5g}", f"{found.std:.3g}"]
    return csv_text([header, *rows])


def _without_expected(table: Rows, work: Sequence[Work]) -> Rows:
    """A list that came back without the columns of ``_with_expected``, whatever is in them now."""
    wanted = {name for w in work for name in w.wanted}
    ours = {prefix + name for name in wanted for prefix in (EXPECTED, EXPECTED_STD)} - wanted
    kept = tuple(column for column in table.header if column.split(" [")[0] not in ours)
    return dataclasses.replace(table, header=kept)


def expectations(
    ledger: Ledger, campaign: int, work: Sequence[Work]
) -> dict[str, dict[str, Expected]]:
    """Id -> property -> what the surrogate expected, newest round last.

    Of designs that were planned with a prediction.
    """
    found: dict[str, dict[str, Expected]] = {}
    for arm, round_ in dict.fromkeys(pair for w in work for pair in w.rounds):
        predicted = ledger.predictions(campaign, arm, round_)
        for candidate, values in zip(ledger.planned(campaign, arm, round_), predicted, strict=True):
            if values:
                found[candidate.id] = {k: _expected(v) for k, v in values.items()}
    return found


def _expected(found: Mapping[str, float]) -> Expected:
    """From what a round kept: mean and deviation of the property itself, and the noise."""
    noise = found.get("noise")
    return Expected(found["mean"], math.hypot(found["std"], noise or 0.0), noise)


def deviations_of(noises: Iterable[float | None]) -> str:
    """What expectations with this noise (``Expected.noise``) give the standard deviation of."""
    if any(noise is None for noise in noises):
        return "the property itself; the scatter of measuring it comes on top"
    return "what would be measured"


def kept_work(
    work: Sequence[Work], folder: Path, round_: int, expected: Expectations | None = None
) -> Path:
    """A work list in ``folder`` that has at least these designs; written when there is none.

    ``expected``: as of ``write_work``. One that exists is never written to: somebody may have
    filled it in.
    """
    ids = {w.candidate.id for w in work}
    number = 1
    while True:
        path = folder / f"round-{round_}{'' if number == 1 else f'-{number}'}.csv"
        if not path.exists():
            write_work(work, path, expected)
            return path
        try:
            if ids <= {cells.get("id", "") for _, cells in read_rows(path, "work list").rows}:
                return path
        except InvalidInputError:  # somebody's own file
            pass
        number += 1


def tell_file(ledger: Ledger, campaign: int, path: Path, *, replace: bool) -> ToldInfo:
    """Keep the results of a CSV file. Raises InvalidInputError for what cannot be kept."""
    return _tell_table(ledger, campaign, read_rows(path, "results"), replace)


def tell_csv(ledger: Ledger, campaign: int, data: bytes, shown: str, *, replace: bool) -> ToldInfo:
    """As ``tell_file``, from the content of a file; ``shown`` stands for it in messages."""
    return _tell_table(ledger, campaign, parse_rows(data, shown, "results"), replace)


def _tell_table(ledger: Ledger, campaign: int, table: Rows, replace: bool) -> ToldInfo:
    work = _asked(ledger, campaign)
    return _tell(ledger, campaign, read_results(_without_expected(table, work), work), replace)


def tell_values(
    ledger: Ledger, campaign: int, results: Sequence[tuple[str, ResultIn]], *, replace: bool
) -> ToldInfo:
    """Keep single results, each with where it stands. An id may be shortened.

    Raises InvalidInputError for what cannot be kept.
    """
    work = _asked(ledger, campaign)
    units = {(w.candidate.id, name): what.unit for w in work for name, what in w.wanted.items()}
    ids = {w.candidate.id for w in work}
    found: list[Located] = []
    for where, r in results:
        id_ = full_id(r.id, ids, where)  # what is unknown is told by the ledger
        unit = units.get((id_, r.property), "") if r.unit is None else r.unit
        try:
            measurement = Measurement(id_, r.property, r.value, unit, r.uncertainty)
        except InvalidInputError as error:
            raise InvalidInputError(f"{where}: {error}") from None
        found.append((where, measurement))
    return _tell(ledger, campaign, found, replace)


def _asked(ledger: Ledger, campaign: int) -> list[Work]:
    work = ledger.work(campaign, told=True)
    if not work:
        raise InvalidInputError(
            "this campaign has asked for no measurement, so there is nothing to tell; measured "
            "properties come from the simulator 'measured' without a table"
        )
    return work


def _tell(ledger: Ledger, campaign: int, results: Sequence[Located], replace: bool) -> ToldInfo:
    told = ledger.tell(campaign, results, replace=replace)
    left = sum(ledger.open_requests(campaign).values())
    name = str(ledger.campaigns().set_index("id").loc[campaign, "name"])
    return ToldInfo(
        campaign=name,
        new=told.new,
        same=told.same,
        replaced=told.replaced,
        scored=told.scored,
        open=left,
        text=_told_text(told, left),
    )


def _told_text(told: Told, left: int) -> str:
    parts = [f"{counted(told.new, 'new result')} kept"]
    if told.same:
        parts.append(f"{told.same} told before alike and passed over")
    if told.replaced:
        parts.append(f"{told.replaced} replaced")
    if told.scored:
        parts.append(
            f"{told.scored} of these scored before with the earlier value, records that stay"
        )
    parts.append(
        f"still open: {counted(left, 'measurement')}" if left else "nothing is open any more"
    )
    return "; ".join(parts)
