"""Filters select what pandas selects, and nothing that is typed into one is ever code."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.candidate import Candidate, Origin, Outcome
from loop.errors import InvalidInputError
from loop.ledger import Ledger
from loop.query import MAX_CONDITIONS, MAX_DEPTH, MAX_LENGTH
from tests.loop.ledger_fixtures import TARGETS, design, play

ODD_TEXT = "x'; DROP TABLE campaign; --"
ODD_NAME = 'Ω" OR 1=1 --'


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("query") / "ledger.db") as opened:
        number = play(opened, rounds=8)
        opened.plan_batch(number, "random", 1, [design(s, source="library") for s in (1, 2, 3)])
        odd = Candidate(
            ("gamma", "gamma_prime"), (), design(5).microstructure, origin=Origin(ODD_TEXT)
        )
        opened.plan_batch(number, "mutation", 1, [odd])
        opened.add_outcomes(
            number, "mutation", 1, [0], [Outcome("ok", {ODD_NAME: 1.5, "σ_GPa": 2.0})],
            simulator="chain", version="1", targets=TARGETS,
        )  # fmt: skip
        yield opened


@pytest.fixture(scope="module")
def frame(ledger: Ledger) -> pd.DataFrame:
    """The same rows for pandas; with nullable types, which know the third answer, unknown."""
    whole = ledger.evaluations()
    for name in whole.columns:
        if whole[name].dtype == "float64":
            whole[name] = whole[name].astype("Float64")  # NaN becomes NA
        elif whole[name].dtype == "str":
            whole[name] = whole[name].astype("string")
    return whole


def selected(ledger: Ledger, where: str) -> list[tuple[str, int, int]]:
    found = ledger.evaluations(where=where, columns=["arm", "round", "position"])
    assert ledger.count(where=where) == len(found)
    return [tuple(row) for row in found.itertuples(index=False)]


NUMBERS = (
    "modulus_GPa", "density_g_per_cm3", "distance", "round", "guidance", "x_Re", "gamma_prime.Al",
    "gamma.fraction", "process.temperature_K", "predicted_modulus_GPa", "requested_modulus_GPa",
)  # fmt: skip
TEXTS = ("arm", "status", "source", "id", "campaign", "reason")
COMPARE: dict[str, Callable[[pd.Series, object], pd.Series]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
}
WORDS = (
    "hit", "round", "arm", "x_Re", "(", ")", "and", "or", "not", "in", "between", ",", "1",
    "-2.5e3", "'a'", '"b"', "`arm`", "<", "=", "!=", "~", "true",
)  # fmt: skip
Rows = Callable[[pd.DataFrame], "pd.Series"]
Filter = tuple[str, Rows]


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@st.composite
def numbers(draw: st.DrawFn, frame: pd.DataFrame, name: str) -> float:
    """Values that occur, so that equality is tried, or any others."""
    own = [float(v) for v in frame[name].dropna().tolist()]
    return draw(st.sampled_from(own) | st.floats(-300, 300))


@st.composite
def conditions(draw: st.DrawFn, frame: pd.DataFrame) -> Filter:
    kind = draw(st.sampled_from(["number", "between", "in", "fields", "text", "begins", "hit"]))
    negated = draw(st.booleans())
    name = draw(st.sampled_from(NUMBERS))
    if kind == "number":
        sign, value = draw(st.sampled_from(sorted(COMPARE))), draw(numbers(frame, name))
        return f"{name} {sign} {value!r}", lambda f: COMPARE[sign](f[name], value)
    if kind == "between":
        low, high = draw(numbers(frame, name)), draw(numbers(frame, name))
        word = "NOT between" if negated else "Between"
        return (
            f"{name} {word} {low!r} and {high!r}",
            lambda f: ((f[name] >= low) & (f[name] <= high)) ^ negated,
        )
    if kind == "in":
        values = draw(st.lists(numbers(frame, name), min_size=1, max_size=4))
        listed = ", ".join(map(repr, values))
        word = "not in" if negated else "in"
        return (
            f"{name} {word}({listed})",
            # isin() calls a missing number absent from the list; we call it unknown.
            lambda f: f[name].isin(values).mask(f[name].isna()).astype("boolean") ^ negated,
        )
    if kind == "fields":
        other = draw(st.sampled_from(NUMBERS))
        sign = draw(st.sampled_from(sorted(COMPARE)))
        return f"{name}{sign}`{other}`", lambda f: COMPARE[sign](f[name], f[other])
    if kind == "hit":
        return ("not hit" if negated else "hit = TRUE"), lambda f: f["hit"] ^ negated
    name = draw(st.sampled_from(TEXTS))
    text = str(draw(st.sampled_from(frame[name].dropna().tolist()) | st.text("lo%_'é", max_size=3)))
    if kind == "begins":
        text = text[: draw(st.integers(0, 6))]
        return f"{name} ~ {quoted(text)}", lambda f: f[name].str.startswith(text)
    sign = draw(st.sampled_from(["=", "!="]))
    return f"{name} {sign} {quoted(text)}", lambda f: COMPARE[sign](f[name], text)


def three_valued(rows: Rows) -> Rows:
    # pandas compares text in Arrow's booleans, which it cannot combine with its own (TypeError).
    return lambda f: rows(f).astype("boolean")


def combined(parts: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    def join(word: str, left: Filter, right: Filter) -> Filter:
        (a, rows_a), (b, rows_b) = [(text, three_valued(rows)) for text, rows in (left, right)]
        if word == "not":
            return f"not ({a})", lambda f: ~rows_a(f)
        if word == "and":
            return f"({a}) and ({b})", lambda f: rows_a(f) & rows_b(f)
        return f"(({a}) OR {b})", lambda f: rows_a(f) | rows_b(f)

    return st.builds(join, st.sampled_from(["and", "or", "not"]), parts, parts)


@settings(max_examples=100)
@given(data=st.data())
def test_filters_select_what_pandas_selects(
    ledger: Ledger, frame: pd.DataFrame, data: st.DataObject
) -> None:
    text, rows = data.draw(st.recursive(conditions(frame), combined, max_leaves=5))
    expected = frame[rows(frame).astype("boolean").fillna(False)]
    assert selected(ledger, text) == [
        tuple(row) for row in expected[["arm", "round", "position"]].itertuples(index=False)
    ]


def test_and_binds_closer_than_or_and_not_closest(ledger: Ledger) -> None:
    plain = selected(ledger, "round = 1 or round = 2 and not arm = 'loop' and hit")
    assert plain == selected(ledger, "round = 1 or (round = 2 and ((not arm = 'loop') and hit))")
    assert plain != selected(ledger, "(round = 1 or round = 2) and not arm = 'loop' and hit")


def test_a_row_without_a_number_matches_neither_side(ledger: Ledger, frame: pd.DataFrame) -> None:
    name = "density_g_per_cm3"
    known = frame[name].notna().sum()
    assert 0 < known < len(frame)
    assert ledger.count(where=f"{name} > 8") + ledger.count(where=f"not {name} > 8") == known
    assert ledger.count(where=f"{name} = 8") + ledger.count(where=f"{name} != 8") == known
    assert ledger.count(where="hit") + ledger.count(where="not hit") < len(frame)  # some pending


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("name", [*NUMBERS, *TEXTS, "hit"])
def test_sorting_puts_what_is_missing_last(
    ledger: Ledger, frame: pd.DataFrame, name: str, descending: bool
) -> None:
    found = ledger.evaluations(sort=name, descending=descending)
    expected = frame.sort_values(name, ascending=not descending, kind="stable", na_position="last")
    key = ["arm", "round", "position"]
    assert found[key].to_numpy().tolist() == expected[key].to_numpy().tolist()
    top = ledger.evaluations(sort=name, descending=descending, limit=4, offset=1)
    assert top[key].to_numpy().tolist() == expected[key].to_numpy().tolist()[1:5]


@pytest.mark.parametrize("blank", [None, "", " \n\t"])
def test_a_blank_filter_selects_all(ledger: Ledger, frame: pd.DataFrame, blank: str | None) -> None:
    assert len(ledger.evaluations(where=blank)) == len(frame)


def test_text_that_looks_like_sql_is_data(ledger: Ledger, frame: pd.DataFrame) -> None:
    assert selected(ledger, f"source = {quoted(ODD_TEXT)}") == [("mutation", 1, 0)]
    assert selected(ledger, f'source = "{ODD_TEXT}"') == [("mutation", 1, 0)]
    assert selected(ledger, f"`{ODD_NAME}` > 1 and σ_GPa = 2e0") == [("mutation", 1, 0)]
    for attack in ("' OR '1'='1", "%", "_%", "') UNION SELECT 1 --", '" or hit or "'):
        assert selected(ledger, f"arm = {quoted(attack)}") == []
        assert selected(ledger, f"arm ~ {quoted(attack)}") == []
        assert selected(ledger, f"arm in ({quoted(attack)})") == []
        with pytest.raises(InvalidInputError, match="unknown field"):
            ledger.evaluations(where=f"`{attack}` = 1")
        with pytest.raises(InvalidInputError, match="unknown field"):
            ledger.evaluations(sort=attack)
    assert len(ledger.evaluations()) == len(frame)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("modulus_gpa > 3", r"position 1: unknown field 'modulus_gpa'; did you mean 'modulus_GPa'"),
        ("hit and x_Rh < 1", r"position 9: unknown field 'x_Rh'; did you mean 'x_Re'"),
        ("arm = loop", r"position 7: unknown field 'loop'.*text goes in quotes"),
        ("round <", r"position 8: the filter ends too early; expected a field, a number"),
        ("round > 5GPa", r"position 10: got 'GPa'; expected 'and', 'or' or the end"),
        ("round > 1 2", r"position 11: got '2'"),
        ("(round > 1", r"position 11: the filter ends too early; expected .*'\)'"),
        ("round > 1)", r"position 10: got '\)'"),
        ("arm = 'loop", r"position 7: the quote ' is not closed"),
        ("round $ 1", r"position 7: got '\$'"),
        ("round > 1 and", r"position 14: the filter ends too early"),
        ("and", r"position 1: got 'and'; expected 'not', a field"),
        ("round in ()", r"position 11|position 10: got '\)'"),
        ("round in (1, 'a')", r"position 14: \"'a'\" is text; expected a number"),
        ("round between 1 or 2", r"position 17: got 'or'; expected 'and'"),
        ("round between 'a' and 2", r"position 15: .* is text; expected a number"),
        ("hit between true and false", r"position 1: 'hit' is true or false; `between`"),
        ("round", r"position 1: 'round' is a number; expected a comparison"),
        ("hit > false", r"position 1: 'hit' is true or false; expected = or !="),
        ("hit = 1", r"position 7: '1' is a number; expected true or false"),
        ("arm = 1", r"position 7: '1' is a number; expected quoted text"),
        ("arm = round", r"position 7: 'round' is a number; expected quoted text"),
        ("round ~ 1", r"position 1: 'round' is a number; ~ \(starts with\) needs text"),
        ("1 = 1", r"position 1: '1' is a number; a comparison needs a field"),
        ("'a' in ('a')", r"position 1: .* a comparison needs a field"),
        ("round > 1e999", r"position 9: '1e999' is too large"),
        ("arm = 'a\0'", r"position 9: a NUL character"),
        ("arm = '\udc80'", r"position 8: not a character"),
        ("round > nan", r"unknown field 'nan'"),
        ("__import__('os')", r"position 11: got '\('"),
        ("round > (1)", r"position 9: got '\('"),
    ],
)
def test_malformed_filters_say_where_and_what(ledger: Ledger, where: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        ledger.evaluations(where=where)
    assert "\n" not in str(caught.value)


def test_a_missing_name_that_resembles_none_lists_properties(ledger: Ledger) -> None:
    with pytest.raises(InvalidInputError, match=r"known: .*modulus_GPa") as caught:
        ledger.evaluations(where="zzzzzzzzzzzz = 1")
    assert "gamma.Al" not in str(caught.value)  # all numbers of all phases would fill a page


def test_long_and_deep_filters_are_bounded(ledger: Ledger) -> None:
    hits = ledger.count(where="hit")
    deep = MAX_LENGTH // 2 - 2
    assert ledger.count(where="(" * deep + "hit" + ")" * deep) == hits
    assert ledger.count(where=" or ".join(["round > 1e3"] * (MAX_CONDITIONS - 1) + ["hit"])) == hits
    assert ledger.count(where="not " * ((MAX_DEPTH - 2) // 2 * 2) + "hit") == hits
    ids = ", ".join(f"{i}e3" for i in range(1, 1000))
    assert ledger.count(where=f"round in ({ids})") == 0
    for leaf, step in (
        ("hit", "hit and (round < 0 or {})"),
        ("not modulus_GPa in (1, 2)", "not (x_Al > 5 or not (x_Re > 5 or {}))"),
        ("density_g_per_cm3 not between 1 and 2", "x_Al < 5 and not (x_Re > x_Al or {})"),
    ):
        nest = leaf
        while True:
            deeper = step.format(nest)
            try:
                ledger.evaluations(where=deeper, sort="modulus_GPa", limit=1)
            except InvalidInputError as error:
                assert f"deeper than {MAX_DEPTH}" in str(error)  # noqa: PT017
                break
            nest = deeper
        assert nest.count("(") >= MAX_DEPTH // 4  # three or four levels a step
    assert ledger.count(where="hit and (round < 0 or hit)") == hits
    for where, message in (
        ("not " * 2000 + "hit", f"deeper than {MAX_DEPTH}"),
        ("(hit or " * 500 + "hit" + ")" * 500, f"deeper than {MAX_DEPTH}"),
        (" or ".join(["hit"] * (MAX_CONDITIONS + 1)), f"at most {MAX_CONDITIONS}"),
        ("(" * deep + "hit", "the filter ends too early"),
        ("x" * (MAX_LENGTH + 1), f"at most {MAX_LENGTH}"),
        ("x" * MAX_LENGTH + "", "unknown field|expected a comparison|ends too early"),
    ):
        with pytest.raises(InvalidInputError, match=message) as caught:
            ledger.evaluations(where=where)
        assert len(str(caught.value)) < 600


@settings(max_examples=150)
@given(
    where=st.text(max_size=40)
    | st.lists(
        st.sampled_from(
            WORDS
        ),
        max_size=12,
    ).map(" ".join)
)  # fmt: skip
def test_whatever_is_typed_selects_or_is_explained(ledger: Ledger, where: str) -> None:
    try:
        ledger.count(where=where)
    except InvalidInputError as error:  # nothing else may come out
        assert "\n" not in str(error)  # noqa: PT017
