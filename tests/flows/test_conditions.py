"""Further conditions read from words, and who takes them."""

from __future__ import annotations

import pytest

from flows.conditions import Condition, read_condition, with_conditions
from generators.baseline import LibraryDraw
from loop.errors import InvalidInputError
from tests import libraries

PROPERTIES = ("hardness_HV", "density_g_per_cm3")
LABELS = {"processing": ("CAST", "ANNEAL")}


def read(text: str, *, avoid: bool = False) -> Condition:
    return read_condition(text, PROPERTIES, LABELS, avoid=avoid)


def test_values_labels_and_weights() -> None:
    assert read("hardness_HV=500") == Condition({"hardness_HV": 500.0}, {}, 1.0)
    both = read(" density_g_per_cm3 = 8.1 ,processing=CAST @ 0.5", avoid=True)
    assert both == Condition({"density_g_per_cm3": 8.1}, {"processing": "CAST"}, -0.5)
    assert both.name == "density_g_per_cm3=8.1, processing=CAST"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hardness=500", "did you mean 'hardness_HV'"),
        ("procesing=CAST", "did you mean 'processing'"),
        ("hardness_HV", "expected PROPERTY=VALUE, several with commas between, and @ WEIGHT"),
        ("hardness_HV=500,", "expected PROPERTY=VALUE"),
        ("hardness_HV=hard", "hardness_HV is 'hard'; expected a number$"),
        ("hardness_HV=400..500", r"expected a number \(ranges are for --set\)"),
        ("hardness_HV=1, hardness_HV=2", "hardness_HV stands there twice"),
        ("hardness_HV=500 @", "the weight is ''; expected a number above 0"),
        ("hardness_HV=500 @ -1", "the weight is '-1'; expected a number above 0, up to 15"),
        ("hardness_HV=500 @ 16", "expected a number above 0, up to 15"),
    ],
)
def test_what_is_no_condition(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read(text)


def test_generators_that_take_none() -> None:
    space = libraries.SPACES["compositions"]
    plain = LibraryDraw(libraries.library(space))
    with pytest.raises(InvalidInputError, match="takes no further conditions; leave them out"):
        with_conditions(plain, [Condition({"density": 8.0})])
