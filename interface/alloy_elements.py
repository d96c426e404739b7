"""Which columns of a scientist's table are shares of elements, and which claim to be and are not.

``Al``, ``Al (at.%)``, ``wt% Ni``, ``alloy:Al``, ``Aluminium (at%)``, ``AL at%``, ``x_Al`` ->
element, percent or fraction of what, and of which whole. A header that says percent or fraction of
something that is no element is named, never passed over: an element left out makes another alloy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from loop.element_names import NAMES, OTHER_NAMES
from loop.formula import SYMBOLS, element_named

WEIGHT, ATOMIC = "weight", "atomic"
_VOLUME, _TRACE, _MASS = "volume", "ppm", "mass"  # of an element: said, and not understood

_KIND = r"(weight|mass(?:en|e)?|gew|wt|(?-i:[wa])|atomic|atoms?|at|molar|mole|mol|volume|vol)"
_MEASURE = r"(%|per\s*cent(?:age)?|pct|fractions?|frac)"
_PERCENT_OF = re.compile(rf"(?<![A-Za-z]){_KIND}[\s._-]*{_MEASURE}\.?", re.IGNORECASE)
# Of a symbol without a space: Alwt%, CoPct
_JOINED = re.compile(
    r"(?:(?<=^[A-Z])|(?<=^[A-Z][a-z]))"
    r"(?:([Ww]t|[Aa]t|[Mm]ol|[Vv]ol)\.?(%|[Pp]ct)|()(Pct|Percent|Fraction|Frac)(?![a-z]))"
)
# Before a symbol: xAl, w(Al)
_BEFORE = re.compile(r"^(?:(x|w)|(wt|at|mol))[\s_]*[(\[]?\s*(?=[A-Z][a-z]?\s*[)\]]?\s*$)")
_PERCENT_BY = re.compile(rf"{_MEASURE}[\s._-]*(?:by[\s_]*)?{_KIND}(?![A-Za-z])\.?", re.IGNORECASE)
_SHORT = re.compile(r"(?<![A-Za-z])([wa])/o(?![A-Za-z])")  # metallurgists' weight, atomic per cent
_PARTS = re.compile(r"(?<![A-Za-z])(?:wt|at|w|a|m)?[\s.]*pp[mb][wa]?(?![A-Za-z])", re.IGNORECASE)
_WEIGHED = re.compile(r"[(\[]\s*(?:[mk]?g|grams?)\s*[)\]]")
_BARE_PERCENT = re.compile(
    r"%|(?<![A-Za-z])(?:per\s*cent|pct|fractions?|frac)(?![A-Za-z])", re.IGNORECASE
)
_BARE_KIND = re.compile(r"(?<![A-Za-z])(weight|mass|wt|atomic|atoms|at|moles|mole|mol)(?![A-Za-z])")
_FILLERS = {
    *("content", "conc", "concentration", "amount", "share", "of", "element", "parts"),
    *("nominal", "measured", "actual", "analysed", "eds", "edx", "epma", "icp", "wds", "xrf"),
}
_PREFIXES = ("x", "X", "c")  # x_Al
_DEVIATION = {"uncertainty", "std", "stdev", "sd", "sigma", "error", "err", "spread", "count"}
_SUMS = {"total", "sum", "totals"}
# Those that last long enough to make alloys of.
_LASTING = frozenset(SYMBOLS[:83]) - {"Tc", "Pm"} | {"Th", "U"}


@dataclass(frozen=True, slots=True)
class Share:
    """What a column of shares says.

    ``kind``: "weight", "atomic", or None where nothing is said. ``whole``: what all shares sum to,
    100 for percent, 1 for fractions, None where nothing is said.
    """

    element: str
    kind: str | None = None
    whole: float | None = None


@dataclass(frozen=True, slots=True)
class _Parts:
    """A header taken apart: ``name`` is what is left of it."""

    name: str
    kind: str | None
    whole: float | None
    phased: bool

    @property
    def claims(self) -> bool:
        """Whether it says percent or fraction of what, or names a phase."""
        return self.phased or (self.kind in (WEIGHT, ATOMIC) and self.whole is not None)


def _kind_of(word: str) -> str:
    word = word.lower()
    if word in ("volume", "vol"):
        return _VOLUME
    return ATOMIC if word.startswith(("at", "mol")) or word == "a" else WEIGHT


def _whole_of(measure: str) -> float:
    return 1.0 if measure.lower().startswith("frac") else 100.0


def _parts(header: str) -> _Parts:
    text, phased = header.rpartition(":")[2].strip(), ":" in header
    kind: str | None = None
    whole: float | None = None
    matched: re.Match[str] | None
    if matched := _PERCENT_OF.search(text):
        kind, whole = _kind_of(matched[1]), _whole_of(matched[2])
    elif matched := _JOINED.search(text):
        kind = _kind_of(matched[1]) if matched[1] else None
        whole = _whole_of(matched[2] or matched[4])
    elif matched := _PERCENT_BY.search(text):
        kind, whole = _kind_of(matched[2]), _whole_of(matched[1])
    elif matched := _BEFORE.search(text):
        kind = None if matched[1] == "x" else _kind_of(matched[1] or matched[2])
    elif matched := _SHORT.search(text):
        kind, whole = _kind_of(matched[1]), 100.0
    elif matched := _PARTS.search(text):
        kind = _TRACE
    elif matched := _WEIGHED.search(text):
        kind = _MASS
    elif matched := _BARE_PERCENT.search(text):
        whole = _whole_of(matched[0])
    elif matched := _BARE_KIND.search(text):
        kind = _kind_of(matched[1])
    if matched:
        text = f"{text[: matched.start()]} {text[matched.end() :]}"
    words = re.sub(r"[()\[\],.%_]|(?<![A-Za-z])-|-(?![A-Za-z])", " ", text).split()
    kept = [word for word in words if word.lower() not in _FILLERS]
    if len(kept) > 1 and kept[0] in _PREFIXES:
        kept = kept[1:]
    return _Parts(" ".join(kept), kind, whole, phased)


def read_element(header: str) -> Share | None:
    """What a column says about the share of an element; None for any other column.

    Elements go by their symbol or their English name; by a symbol in other capitals only where the
    header says percent or fraction of what, since words such as "in" and "No" are symbols too.
    """
    parts = _parts(header)
    if parts.kind in (_VOLUME, _TRACE, _MASS):
        return None
    element = _element(parts)
    return None if element is None else Share(element, parts.kind, parts.whole)


def _element(parts: _Parts) -> str | None:
    name = parts.name
    if name in SYMBOLS:
        plain = parts.kind is None and parts.whole is None and not parts.phased
        return None if name == "No" and plain else name  # a column of numbers, not nobelium
    if (named := element_named(name)) is not None:
        return named
    symbol = name.capitalize()
    return symbol if parts.claims and len(name) <= 2 and symbol in _LASTING else None


def doubtful_element(header: str) -> str | None:
    """The element that a header may mean: a symbol in other capitals, a name with a slip in it."""
    parts = _parts(header)
    name = parts.name
    if parts.kind is not None or name in SYMBOLS:
        return None
    if re.fullmatch(r"[A-Z]{2}|[a-z]{2}", name):
        return name.capitalize() if name.capitalize() in _LASTING else None
    if re.fullmatch(r"[A-Za-z]{5,}", name):
        known = {full.lower(): s for s, full in zip(SYMBOLS, NAMES, strict=True)} | OTHER_NAMES
        lasting = [full for full, symbol in known.items() if symbol in _LASTING]
        near = get_close_matches(name.lower(), lasting, n=1, cutoff=0.8)
        return known[near[0]] if near else None
    return None


def unread_share(header: str) -> str | None:
    """What is wrong with a header that says how much of something, and is no element's.

    None for elements, and for columns that are none of the composition: deviations, sums, and
    whatever does not speak of percent by weight or atoms.
    """
    if read_element(header) is not None:
        return None
    words = {word.lower() for word in re.findall(r"[^\W\d_]+", header)}
    if words & (_DEVIATION | _SUMS) or re.search(r"±|\+/?-", header):
        return None
    parts = _parts(header)
    if parts.kind in (_VOLUME, _TRACE, _MASS):
        element = _element(parts)
        if element is None:
            return None
        said = {_VOLUME: "percent by volume", _TRACE: "parts per million", _MASS: "a mass"}
        return (
            f"{said[parts.kind]} of {element} is not understood; give it in percent by weight or "
            "atoms, or rename the column where it is none of the composition"
        )
    if parts.whole is not None and parts.kind is None and _names_an_element(parts.name):
        return (
            "percent of what is not said, or not understood; head it such as 'Al (at.%)' or "
            "'Al (wt%)', or rename the column where it is none of the composition"
        )
    if not parts.claims or not parts.name:
        return None
    return (
        f"unknown element {parts.name!r}; {_nearest(parts.name)}head each share of the composition "
        "with its element, and rename or take out a column that is none"
    )


def _names_an_element(text: str) -> bool:
    words = text.split()
    if words and words[0] in _LASTING and all(len(word) <= 2 for word in words[1:]):
        return True
    return any((w in _LASTING and len(w) == 2) or element_named(w) is not None for w in words)


def _nearest(name: str) -> str:
    spellings = {symbol.lower(): symbol for symbol in SYMBOLS}
    if len(name) > 2:
        spellings = {
            **{full.lower(): f"{s} ({full})" for s, full in zip(SYMBOLS, NAMES, strict=True)},
            **{full: f"{symbol} ({full})" for full, symbol in OTHER_NAMES.items()},
        }
    near = get_close_matches(name.lower(), spellings, n=1, cutoff=0.5 if len(name) <= 2 else 0.7)
    return f"did you mean {spellings[near[0]]}? If so, " if near else ""


def percent_of(header: str) -> str:
    """``wt%``, ``at%``, ``mass fraction`` or ``atomic fraction``; "" where a header says none."""
    parts = _parts(header)
    if parts.kind not in (WEIGHT, ATOMIC) or parts.whole is None:
        return ""
    if parts.whole == 1:
        return "mass fraction" if parts.kind == WEIGHT else "atomic fraction"
    return "wt%" if parts.kind == WEIGHT else "at%"
