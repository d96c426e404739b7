"""What ``predict`` and its HTTP path share: designs in words and tables, and the session asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.errors import InvalidInputError, SpinodalError

if TYPE_CHECKING:
    from flows.paths import Generated
    from loop.candidate import Candidate
    from loop.composition import FloatArray
    from loop.session import Session
    from loop.space import DesignSpace

_ID = re.compile(r"[0-9a-f]{4,32}")
_NOT_HERE = re.compile(r"unknown element '(\w+)'")  # as formula.to_vector begins


def read_designs(
    session: Session,
    texts: Sequence[str],
    table: Path | None = None,
    *,
    process: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    normalise: bool = False,
    draw: bool = False,
) -> list[Candidate]:
    """Designs in words, as ids of the ledger, and then those of a table, in order.

    ``process``, ``labels``: of those in words, and of rows of a table without such columns.
    ``draw``: the trained generator draws the micrographs that compositions lack. Raises
    InvalidInputError, naming text or line, for what cannot be read or makes no design of the
    campaign; LedgerError for an unknown id, and where nothing is trained that could draw.
    """
    from flows.paths import design_of

    space = session.campaign.space
    process, labels = dict(process or {}), dict(labels or {})
    ids = [bool(_ID.fullmatch(text.strip())) for text in texts]
    in_words = not all(ids) or table is not None
    for option, given in (("--process", process), ("--label", labels)):
        if given and not in_words:
            raise InvalidInputError(f"{option} is for alloys in words; designs have their own")
    if not texts and table is None:
        raise InvalidInputError(
            "no alloy is given; name some, as in Al0.3CoCrFeNi, or a table of them with --csv FILE"
        )
    if draw and space.image_shape is None:
        raise InvalidInputError(
            "designs of this campaign have no micrographs; leave --microstructures out"
        )
    generated = None
    if in_words:
        _check_words(space, draw)
        generated = _generated(session) if draw else None
    designs = []
    for text, is_id in zip(texts, ids, strict=True):
        if is_id:
            designs.append(session.ledger.candidate(text.strip()))
        else:
            x = _in_words(text, space, normalise)
            designs.append(design_of(space, x, process, generated, labels=labels))
    if table is not None:
        designs += _of_table(space, table, process, labels, normalise, generated)
    return designs


def _generated(session: Session) -> Generated:
    from flows.paths import Generated

    return Generated(session)


def _check_words(space: DesignSpace, draw: bool) -> None:
    """Raise InvalidInputError where compositions in words are no designs of the space."""
    if not space.elements:
        raise InvalidInputError(
            "designs of this campaign are micrographs without compositions; give designs of its "
            "ledger by id"
        )
    if space.image_shape is not None and not draw:
        raise InvalidInputError(
            f"designs of this campaign have {len(space.phases)} phases "
            f"({', '.join(space.phases)}) and a micrograph, which compositions do not say; give "
            "designs of its ledger by id, or have the trained generator draw micrographs "
            "(--microstructures)"
        )


def _in_words(text: str, space: DesignSpace, normalise: bool) -> FloatArray:
    """(p, e) of one composition, or of ``phase: composition`` of every phase."""
    from interface.interpolation_ends import end_compositions

    try:
        return end_compositions([text], space, normalise=normalise, drawn=True)[0]
    except InvalidInputError as error:
        told = str(error).replace("give two candidates", "give designs")
        if matched := _NOT_HERE.match(told):
            told = _not_among(matched[1], space)
        raise InvalidInputError(told if text in told else f"{text!r}: {told}") from None


def _not_among(element: str, space: DesignSpace) -> str:
    return (
        f"{element} is not among the campaign's elements ({', '.join(space.elements)}); its "
        "surrogate knows nothing of it"
    )


def _of_table(
    space: DesignSpace,
    path: Path,
    process: Mapping[str, float],
    labels: Mapping[str, str],
    normalise: bool,
    generated: Generated | None,
) -> list[Candidate]:
    """The designs of a table's rows: compositions, and columns of process variables and labels."""
    from flows.paths import design_of
    from simulators.measured_files import read_number, read_rows

    table = read_rows(path, "table")
    if not table.rows:
        raise InvalidInputError(f"table {path} has a header but no rows; add alloys")
    for name, option in [*((k, "--process") for k in process), *((k, "--label") for k in labels)]:
        if name in table.header:
            raise InvalidInputError(
                f"{option} {name}: table {path} has a column of that name, which says it row by "
                "row; leave one of the two out"
            )
    designs = []
    compositions = _table_compositions(table, path, space, normalise)
    for (line, cells), x in zip(table.rows, compositions, strict=True):
        own: dict[str, Any] = {
            name: read_number(cells[name], table.where(line, name))
            for name in space.process
            if name in table.header
        }
        texts = {name: cells[name] for name in space.labels if name in table.header}
        try:
            found = design_of(space, x, {**process, **own}, generated, labels={**labels, **texts})
        except SpinodalError as error:
            raise type(error)(f"table {path}, line {line}: {error}") from None
        designs.append(found)
    return designs


def _table_compositions(
    table: Any, path: Path, space: DesignSpace, normalise: bool
) -> list[FloatArray]:
    """(p, e) of every row: columns PHASE:ELEMENT of several phases, alloys as a whole of one."""
    from interface.alloy_compositions import read_table_compositions
    from loop.composition_table import read_compositions
    from loop.formula import to_vector

    if len(space.phases) > 1:
        return list(read_compositions(path, space.phases, space.elements))
    found = []
    amounts = read_table_compositions(table, normalise=normalise).rows
    for (line, _), row in zip(table.rows, amounts, strict=True):
        for element, amount in row.items():
            if amount > 0 and element not in space.elements:
                raise InvalidInputError(f"table {path}, line {line}: {_not_among(element, space)}")
        found.append(to_vector(row, space.elements)[None])
    return found
