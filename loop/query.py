"""The filter language of command line, HTTP API and dashboard, turned into bound SQL parameters.

    youngs_modulus_GPa > 190 and density_g_per_cm3 between 8.0 and 8.2
    x_Re < 0.01 and gamma_prime.Al > 0.15 and not source in ("library", "mutation")
    hit and id ~ "3fa9"

Comparisons are < <= > >= = == != and ~ (text starts with); ``between a and b`` includes both
ends; fields that hold true or false stand alone. Text is quoted with ' or " (doubled inside),
a field name with other characters than letters, digits, _ and dots by `backticks`. Keywords
may be written in capitals. A row that lacks a field matches neither a comparison with it nor
that comparison's negation.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from lark import Lark, Token, Tree, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from sqlalchemy import ColumnElement, Double, Text, and_, false, func, literal, not_, or_, true

from loop.errors import InvalidInputError

Kind = Literal["number", "text", "boolean"]

# Bounds on what is parsed: far above what a person writes, below what databases refuse (SQLite's
# own parser holds 100 symbols, of which a level takes up to 3 and the rest of a query about 20).
MAX_LENGTH = 10_000
MAX_DEPTH = 20
MAX_CONDITIONS = 300

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
}
_TERMINALS = {
    "_AND": "'and'",
    "_OR": "'or'",
    "_NOT": "'not'",
    "_IN": "'in'",
    "_BETWEEN": "'between'",
    "COMPARISON": "a comparison",
    "NAME": "a field",
    "NUMBER": "a number",
    "STRING": "quoted text",
    "TRUE": "true",
    "FALSE": "false",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "$END": "the end",
}


@dataclass(frozen=True, slots=True)
class Field:
    """What a name in a filter stands for: an SQL expression and its kind."""

    expression: ColumnElement[Any]
    kind: Kind


@dataclass(frozen=True, slots=True)
class _Operand:
    expression: ColumnElement[Any]
    kind: Kind
    shown: str
    position: int  # counted from 1
    is_field: bool


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark.open("query.lark", rel_to=__file__, parser="lalr", maybe_placeholders=False)


def parse_filter(text: str, resolve: Callable[[str], Field]) -> ColumnElement[bool]:
    """A filter as an SQL condition; every literal is a bound parameter.

    ``resolve`` gives the field of a name and raises InvalidInputError for an unknown one.
    Raises InvalidInputError with the position and what was expected for anything malformed.
    """
    _check_text(text)
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise InvalidInputError(_explain(text, error)) from None
    _check_size(tree)
    return _condition(tree, resolve)


def _check_text(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise InvalidInputError(
            f"filter has {len(text)} characters; expected at most {MAX_LENGTH}, shorten it"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"filter, position {error.start + 1}: not a character that can be encoded as UTF-8"
        ) from None
    if "\0" in text:
        raise InvalidInputError(
            f"filter, position {text.index(chr(0)) + 1}: a NUL character; remove it"
        )


def _check_size(tree: Tree[Token]) -> None:
    # With a stack of its own: a recursive walk is what the bound is there to prevent.
    pending: list[tuple[Tree[Token], int]] = [(tree, 1)]
    conditions = 0
    while pending:
        node, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise InvalidInputError(f"filter is nested deeper than {MAX_DEPTH} levels; simplify it")
        if node.data in ("disjunction", "conjunction", "negation"):
            pending += [(child, depth + 1) for child in node.children if isinstance(child, Tree)]
        else:
            conditions += 1
    if conditions > MAX_CONDITIONS:
        raise InvalidInputError(
            f"filter has {conditions} conditions; expected at most {MAX_CONDITIONS}, "
            "use `in (…)` for lists"
        )


def _explain(text: str, error: UnexpectedInput) -> str:
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        position, got, names = error.token.start_pos, str(error.token), set(error.accepts)
    elif isinstance(error, UnexpectedCharacters):
        position, names = error.pos_in_stream, set(error.allowed or ())
        got = text[position]
        if got in "\"'`":
            return f"filter, position {position + 1}: the quote {got} is not closed; close it"
    else:
        position, got = len(text), ""
        names = set(error.accepts) if isinstance(error, UnexpectedToken) else set()
    wanted = [shown for name, shown in _TERMINALS.items() if name in names]
    expected = " or ".join([", ".join(wanted[:-1]), wanted[-1]] if len(wanted) > 1 else wanted)
    found = f"got {_short(got)}" if got else "the filter ends too early"
    return f"filter, position {position + 1}: {found}; expected {expected or 'a condition'}"


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 40 else shown[:37] + "...'"


def _condition(tree: Tree[Token] | Token, resolve: Callable[[str], Field]) -> ColumnElement[bool]:
    assert isinstance(tree, Tree)
    children = tree.children
    if tree.data == "disjunction":
        return or_(false(), *(_condition(child, resolve) for child in children))
    if tree.data == "conjunction":
        return and_(true(), *(_condition(child, resolve) for child in children))
    if tree.data == "negation":
        return not_(_condition(children[0], resolve))
    if tree.data == "flag":
        return _flag(_operand(children[0], resolve))
    if tree.data == "comparison":
        left, sign, right = children
        return _comparison(_operand(left, resolve), str(sign), _operand(right, resolve, right=True))
    first = _operand(children[0], resolve)
    others = [_operand(child, resolve, right=True) for child in children[1:]]
    _check_kinds(first, others)
    if tree.data in ("between", "not_between"):
        if first.kind == "boolean":
            raise _wrong(first, "`between` needs numbers or text")
        low, high = others
        inside = and_(first.expression >= low.expression, first.expression <= high.expression)
        return inside if tree.data == "between" else not_(inside)
    among = first.expression.in_([other.expression for other in others])
    return among if tree.data == "among" else not_(among)


def _operand(
    tree: Tree[Token] | Token, resolve: Callable[[str], Field], *, right: bool = False
) -> _Operand:
    assert isinstance(tree, Tree)
    (token,) = tree.children
    assert isinstance(token, Token)
    text, position = str(token), (token.start_pos or 0) + 1
    if token.type in ("NAME", "QUOTED_NAME"):
        name = text.strip("`")
        try:
            field = resolve(name)
        except InvalidInputError as error:
            hint = " (text goes in quotes)" if right and token.type == "NAME" else ""
            raise InvalidInputError(f"filter, position {position}: {error}{hint}") from None
        return _Operand(field.expression, field.kind, name, position, is_field=True)
    if token.type == "NUMBER":
        number = float(text)
        if not math.isfinite(number):
            raise InvalidInputError(
                f"filter, position {position}: {_short(text)} is too large for a float64 number"
            )
        return _Operand(literal(number, Double), "number", text, position, is_field=False)
    if token.type == "STRING":
        quote = text[0]
        content = text[1:-1].replace(quote * 2, quote)
        return _Operand(literal(content, Text), "text", text, position, is_field=False)
    value = true() if token.type == "TRUE" else false()
    return _Operand(value, "boolean", text, position, is_field=False)


def _wrong(operand: _Operand, expected: str) -> InvalidInputError:
    kind = {"boolean": "true or false", "text": "text", "number": "a number"}[operand.kind]
    return InvalidInputError(
        f"filter, position {operand.position}: {_short(operand.shown)} is {kind}; {expected}"
    )


def _check_kinds(first: _Operand, others: Iterable[_Operand]) -> None:
    others = list(others)
    if not (first.is_field or any(other.is_field for other in others)):
        raise _wrong(first, "a comparison needs a field on at least one side")
    for other in others:
        if other.kind != first.kind:
            what = {"boolean": "true or false", "text": "quoted text", "number": "a number"}
            raise _wrong(
                other, f"expected {what[first.kind]} to compare with {_short(first.shown)}"
            )


def _flag(operand: _Operand) -> ColumnElement[bool]:
    if operand.kind != "boolean":
        raise _wrong(operand, "expected a comparison after it")
    return operand.expression == true()


def _comparison(left: _Operand, sign: str, right: _Operand) -> ColumnElement[bool]:
    _check_kinds(left, [right])
    if sign == "~":
        if left.kind != "text":
            raise _wrong(left, "~ (starts with) needs text")
        # Not LIKE: whether that minds capitals differs between databases.
        length = func.length(right.expression)
        return func.substr(left.expression, 1, length) == right.expression
    if left.kind == "boolean" and sign in ("<", "<=", ">", ">="):
        raise _wrong(left, "expected = or !=")
    condition: ColumnElement[bool] = _COMPARE[sign](left.expression, right.expression)
    return condition
