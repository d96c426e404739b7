"""What the numbers of a composition in words mean: amounts, fractions or percent, of what.

A formula's numbers are a ratio, ``Al0.3CoCrFeNi``, ``Cr23C6``, ``Mg17Al12``, unless they look like
shares of a whole, which they then have to sum to:

of 1      every element has a number, and all are below 1: ``Fe0.4Ni0.6``
of 100    every element has a number, and either they sum to more than 50, or all are whole tens
          and fives from 10 on: ``Fe60Ni60``, ``Fe30Ni10``. Formulas of compounds are in lowest
          terms and hardly ever hold more than 50 atoms
of either what follows is percent or fraction by weight or atoms: ``Ti90Al6V4 wt%``

Names of alloys that happen to be formulas of something else are refused, ``Ti6Al4V``, ``CuZn37``,
``AlSi10Mg``: their numbers are percent by weight. ``normalise`` takes the numbers as the ratio that
they are in each of these cases.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from loop.errors import InvalidInputError

PERCENT_FROM = 50.0  # numbers of a formula that sum to more are percent
STEP, SMALLEST = 5.0, 10.0  # or all are multiples of the one and at least the other
MOST_ATOMS = 15.0  # for one of an element without a number; NaZn13 has 13
LEAST_TITANIUM, LEAST_SILICON = 3.0, 5.0  # of Ti6Al4V and AlSi5; Ti2ZrNb and AlSi2 are ratios

_BODY = (
    r"(?<![A-Za-z])(?:(weight|mass|wt|(?-i:w)|atomic|atom|at|mole|mol)[\s.-]*"
    r"(%|(?:percent|pct|fractions?)(?![A-Za-z]))|%)"
)
UNIT = re.compile(_BODY, re.IGNORECASE)  # groups: of what, and percent or fraction
_IN_BRACKETS = re.compile(rf"[(\[]\s*({_BODY})\s*[)\]]", re.IGNORECASE)
_NUMBERED = re.compile(r"([A-Z][a-z]?)\s*(\d+\.?\d*|\.\d+)?")


class OtherSumError(InvalidInputError):
    """Fractions or percent that do not sum to their whole."""


def without_brackets(text: str) -> str:
    """The text with its unit, where that is in brackets, taken out of them: ``NiCr (at%)``."""
    return _IN_BRACKETS.sub(r" \1 ", text)


def check_decimal_points(what: str, text: str) -> None:
    """Raise InvalidInputError, its text starting with ``what``, for a decimal comma."""
    if re.search(r"\d,\d", text):
        mended = re.sub(r"(?<=\d),(?=\d)", ".", text)
        raise InvalidInputError(f"{what} {text!r} has a decimal comma; write {mended!r}")


def whole_of(numbers: Sequence[str], total: float, said: float | None) -> float | None:
    """What numbers have to sum to, 1 or 100; None for a ratio. See the module's text.

    ``numbers``: as written, "" where an element has none; ``said``: 1 where the text says
    fraction, 100 where it says percent.
    """
    given = [float(number) for number in numbers if number]
    every = len(given) == len(numbers) > 1
    small = every and max(given) < 1
    if said is not None:
        return 1.0 if said == 1 or small else 100.0
    if small:
        return 1.0
    stepped = every and all(x >= SMALLEST and x % STEP == 0 for x in given)
    return 100.0 if every and (total > PERCENT_FROM or stepped) else None


def check_no_trade_name(text: str, plain: str) -> None:
    """Raise InvalidInputError for the name of an alloy that reads as another formula.

    ``plain``: the text without unit.
    """
    parts = _NUMBERED.findall(plain.replace(" ", ""))
    if len(parts) < 2 or "".join(map("".join, parts)) != plain.replace(" ", ""):
        return
    numbers = [number for _, number in parts]
    if all(numbers) or not any(numbers):
        return
    (first, leading), (second, following) = parts[:2]
    # Numbers before the elements: all but the last element seem to have one.
    if (
        first == "Ti"
        and len(parts) > 2
        and all(numbers[:-1])
        and not numbers[-1]
        and float(leading) >= LEAST_TITANIUM
    ):
        symbols = [symbol for symbol, _ in parts]
        named = "".join(f"-{n}{e}" for n, e in zip(numbers[:-1], symbols[1:], strict=True))
        raise InvalidInputError(
            f"composition {text!r} would be {leading} Ti to {following} {second}, and is the name "
            f"of an alloy in percent by weight; write '{first}{named} wt%' for that, "
            f"'{plain}1' for the ratio"
        )
    silicon = (first, leading, second) == ("Al", "", "Si")
    silicon = silicon and float(following or 1) >= LEAST_SILICON
    largest = max(parts, key=lambda part: float(part[1] or 1))
    if float(largest[1] or 1) >= MOST_ATOMS or silicon:
        example = "'Ni-20Cr wt%'"
        if not leading and all(numbers[1:]):
            example = f"'{first}{''.join(f'-{n}{e}' for e, n in parts[1:])} wt%'"
        raise InvalidInputError(
            f"composition {text!r} would have {largest[1]} {largest[0]} for one of another "
            f"element; if these are percent, say so, as in {example}; if it is that ratio, "
            "ask for it with --normalise"
        )
