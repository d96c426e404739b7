"""The laboratory's side of a ledger: its work list, and the results that it sends in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from interface.models import ResultIn, ToldInfo, WantedInfo, WorkItem, WorkList
from interface.views import finite
from interface.views_candidates import phase_compositions
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.laboratory import Measurement, Told, Work, counted
from loop.ledger import Ledger
from simulators.measured_files import parse_rows, png_bytes, read_rows, write_whole
from simulators.measured_work import Located, image_file, read_results, work_text

SHORTEST_ID = 6


def image_url(candidate: Candidate) -> str:
    """Where the server has the phase labels of a design, pixel for pixel."""
    return f"/api/candidates/{candidate.id}/image.png?scale=1"


def work_list(ledger: Ledger, campaign: int) -> WorkList:
    """What people are asked to measure. Raises LedgerError for an unknown campaign."""
    frame = ledger.campaigns().set_index("id")
    work = ledger.work(campaign)
    return WorkList(
        campaign=str(frame.loc[campaign, "name"]),
        waiting=ledger.waiting(campaign),
        open=sum(len(w.open) for w in work),
        items=[_item(w) for w in work],
    )


def _item(work: Work) -> WorkItem:
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
            )
            for name, wanted in work.wanted.items()
        ],
    )


def work_csv(ledger: Ledger, campaign: int) -> str:
    """The open work list as the server hands it out: pictures are paths of the server's."""
    return work_text(ledger.work(campaign), image_url)


def write_work(work: Sequence[Work], path: Path) -> int:
    """Write a work list and, in ``images`` beside it, its pictures; returns how many of these.

    The list comes last and whole. Raises InvalidInputError where it cannot be written.
    """
    pictures = [w.candidate for w in work if w.candidate.microstructure is not None]
    for candidate in pictures:
        write_whole(path.parent / image_file(candidate), png_bytes(candidate))
    write_whole(path, work_text(work))
    return len(pictures)


def expectations(
    ledger: Ledger, campaign: int, work: Sequence[Work]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Id -> property -> (mean, standard deviation) that the surrogate predicted, newest round last.

    Of designs that were planned with a prediction.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for arm, round_ in dict.fromkeys(pair for w in work for pair in w.rounds):
        predicted = ledger.predictions(campaign, arm, round_)
        for candidate, values in zip(ledger.planned(campaign, arm, round_), predicted, strict=True):
            if values:
                found[candidate.id] = {k: (v["mean"], v["std"]) for k, v in values.items()}
    return found


def kept_work(work: Sequence[Work], folder: Path, round_: int) -> Path:
    """A work list in ``folder`` that has at least these designs; written when there is none.

    One that exists is never written to: somebody may have filled it in.
    """
    ids = {w.candidate.id for w in work}
    number = 1
    while True:
        path = folder / f"round-{round_}{'' if number == 1 else f'-{number}'}.csv"
        if not path.exists():
            write_work(work, path)
            return path
        try:
            if ids <= {cells.get("id", "") for _, cells in read_rows(path, "work list").rows}:
                return path
        except InvalidInputError:  # somebody's own file
            pass
        number += 1


def tell_file(ledger: Ledger, campaign: int, path: Path, *, replace: bool) -> ToldInfo:
    """Keep the results of a CSV file. Raises InvalidInputError for what cannot be kept."""
    table = read_rows(path, "results")
    return _tell(ledger, campaign, read_results(table, _asked(ledger, campaign)), replace)


def tell_csv(ledger: Ledger, campaign: int, data: bytes, shown: str, *, replace: bool) -> ToldInfo:
    """As ``tell_file``, from the content of a file; ``shown`` stands for it in messages."""
    table = parse_rows(data, shown, "results")
    return _tell(ledger, campaign, read_results(table, _asked(ledger, campaign)), replace)


def tell_values(
    ledger: Ledger, campaign: int, results: Sequence[tuple[str, ResultIn]], *, replace: bool
) -> ToldInfo:
    """Keep single results, each with where it stands. An id may be shortened.

    Raises InvalidInputError for what cannot be kept.
    """
    work = _asked(ledger, campaign)
    units = {(w.candidate.id, name): what.unit for w in work for name, what in w.wanted.items()}
    found: list[Located] = []
    for where, r in results:
        id_ = _full_id(r.id, work, where)
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


def _full_id(given: str, work: Sequence[Work], where: str) -> str:
    ids = [w.candidate.id for w in work if w.candidate.id.startswith(given)]
    if given in ids or len(given) < SHORTEST_ID or not ids:
        return given  # what is unknown is told by the ledger
    if len(ids) > 1:
        raise InvalidInputError(f"{where}: {len(ids)} ids begin with {given!r}; give more of it")
    return ids[0]


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
