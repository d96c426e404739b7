"""A solution's parameters as a campaign gives them: a table, or a TOML file that holds the same.

source         where the numbers come from; required
interactions   "A-B" -> [[a, b], ...], one pair per power v of (x_A - x_B)^v, L^v = a + b T in
               J/mol and J/(mol K); [] for a pair that mixes ideally; every pair is required
references     element -> [a, b], its g = a + b T in this phase; default [0, 0]

    [simulators.settings.phase-equilibrium.solution]
    source = "F. H. Hayes et al., Z. Metallkd. 77, 749 (1986)"
    interactions = { Ag-Cu = [[36061.88, -10.44288], [-4310.12, 0.0]] }

A file may hold more elements than the design space; a table in the campaign may not.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from simulators.setting_tables import parse_table
from simulators.solution import Solution

Terms = dict[str, list[list[float]]]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    source: str = Field(min_length=1)
    interactions: Terms
    references: dict[str, list[float]] = Field(default_factory=dict)


def load_solution(given: str | Mapping[str, Any], elements: Sequence[str]) -> Solution:
    """The solution of the given elements, from a table or from the path of a TOML file.

    Raises InvalidCampaignError for a file that cannot be read and parameters that are wrong or
    missing, naming the key.
    """
    where = f"solution {given}: " if isinstance(given, str) else "solution: "
    table = _from_file(Path(given)) if isinstance(given, str) else dict(given)
    parameters = parse_table(where, _Parameters, table)
    pairs = {name: _pair(name, where) for name in parameters.interactions}
    more = {e for pair in pairs.values() for e in pair} | set(parameters.references)
    extra = sorted(more - set(elements))
    if extra and not isinstance(given, str):
        raise InvalidCampaignError(where + unknown_name("element", extra[0], elements))
    known = {frozenset(pair) for pair in pairs.values()}
    for a, b in combinations(elements, 2):
        if frozenset((a, b)) not in known:
            raise InvalidCampaignError(
                f"{where}interaction {a}-{b} is missing; give its terms, or [] where the two mix "
                "ideally"
            )
    try:
        whole = Solution(
            (*elements, *extra),
            {pairs[name]: _terms(terms) for name, terms in parameters.interactions.items()},
            {name: _term(term) for name, term in parameters.references.items()},
            name="solution",
            source=parameters.source,
        )
        return whole.subset(elements)
    except InvalidInputError as error:
        raise InvalidCampaignError(f"{where}{error}") from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidCampaignError(
            f"solution {path} cannot be read: {error.strerror or error}; give the path of a TOML "
            "file with source and interactions"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidCampaignError(f"solution {path} is not valid TOML: {error}") from None


def _pair(name: str, where: str) -> tuple[str, str]:
    first, _, second = name.partition("-")
    if not first or not second or "-" in second:
        raise InvalidCampaignError(
            f"{where}interactions.{name}: expected two elements, as in 'Ag-Cu'"
        )
    return first, second


def _terms(terms: list[list[float]]) -> tuple[tuple[float, float], ...]:
    return tuple(_term(term) for term in terms)


def _term(term: list[float]) -> tuple[float, float]:
    if len(term) != 2:
        raise InvalidInputError(f"{term} given; expected [a, b] of a + b T")
    return term[0], term[1]
