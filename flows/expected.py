"""What a campaign's surrogate expects, as a simulator: for what asks for many designs in turn.

The surrogate is fitted once, as ``flows.predict`` fits it, so that both give the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.fitted import fitted_surrogate
from flows.predict import LEVEL, check_kind
from loop.candidate import Candidate, Fidelity, Outcome
from loop.measuring import best_known
from loop.session import Session

__all__ = ["LEVEL", "Expected"]


class Expected:
    """A Simulator whose values are the surrogate's means.

    The uncertainty of an outcome is one standard deviation of the property itself. Its bounds are
    the ends of the central interval of probability ``LEVEL`` of a new value, in which there is
    what measuring scatters. ``records``: how many it was fitted to. Nothing is
    added to the ledger.
    Raises LedgerError where nothing has been scored yet, InvalidInputError for a property with
    fewer than 8 scored values.
    """

    name = "surrogate"
    fidelity: Fidelity = "predicted"

    def __init__(self, session: Session) -> None:
        self.campaign, self.space = session.campaign.name, session.campaign.space
        self._surrogate, ok = fitted_surrogate(session)
        self.records = len(best_known(ok))
        self.version = f"{self.campaign}-{self.records}"
        units = {name: unit for s in session.simulators for name, unit in s.outputs.items()}
        self.outputs: Mapping[str, str] = {name: units[name] for name in session.properties}
        self._features = session.features

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate, in order, with every property.

        Raises InvalidInputError for a design that is not of the campaign's kind.
        """
        for candidate in candidates:
            check_kind(candidate, self.space, self.campaign)
        if not candidates:
            return []
        found = self._surrogate.predict(self._features.transform(list(candidates)))
        low, high = self._surrogate.interval(found, LEVEL)
        names = tuple(self.outputs)
        return [
            Outcome(
                "ok",
                dict(zip(names, found.mean[i], strict=True)),
                {k: (low[i, j], high[i, j]) for j, k in enumerate(names)},
                uncertainty=dict(zip(names, found.std[i], strict=True)),
            )
            for i in range(len(candidates))
        ]
