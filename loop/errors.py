"""Errors that a user can mend.

Every message names what came, what was expected and how to mend it. The command line
prints such an error as one line and exits with code 2; anything else is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SpinodalError(ValueError):
    """Base of every error that is caused by input, settings or the surroundings."""


class InvalidInputError(SpinodalError):
    """A value, file or table that cannot be used as it is."""


class InvalidCampaignError(SpinodalError):
    """A campaign file with an unknown key, a missing key or settings that contradict."""


class LedgerError(SpinodalError):
    """A ledger that cannot be opened, is too new, is locked by a run or lacks what was asked."""


class BusyError(LedgerError):
    """A campaign that another run has in its hands."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that is not among ``known``, with the nearest known one offered."""
    names = sorted(known)
    near = [other for other in names if other.lower() == name.lower()]
    near = near or get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return f"unknown {kind} {name!r}; {hint}"
