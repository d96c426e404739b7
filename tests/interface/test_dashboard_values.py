"""Values on the page say how they were found and how sure they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from interface.dashboard_charts import requested_chart
from interface.dashboard_data import Snapshot, Snapshots
from interface.dashboard_values import OF_ITSELF, chart_points, kind_of, value_text
from loop.candidate import Outcome
from loop.ledger import Ledger
from loop.targets import Range
from tests.interface.fixtures import NAME, TARGETS, propose, rule, start_campaign

PROPERTY = "density_g_per_cm3"
TWIN = f"simulated_{PROPERTY}"


@pytest.mark.parametrize(
    ("kinds", "fidelity", "twice", "kind"),
    [
        ({"a": {"simulated"}}, "mixed", False, "simulated"),
        ({"a": {"measured"}}, "mixed", False, "measured"),
        ({"a": {"measured", "simulated"}}, "mixed", True, "measured"),
        ({"a": {"measured", "simulated"}}, "simulated", False, "simulated"),
        ({"a": {"measured", "simulated"}}, "mixed", False, "mixed"),
        ({}, None, False, ""),
    ],
)
def test_how_a_value_was_found(
    kinds: dict[str, set[str]], fidelity: str | None, twice: bool, kind: str
) -> None:
    assert kind_of("a", kinds, fidelity, twice=twice) == kind


def test_a_value_has_its_uncertainty_where_that_is_known() -> None:
    assert value_text(7.3512, 0.031, Range("a", 7.0, 8.0)) == "7.351 ± 0.031"
    assert value_text(7.3512, None, Range("a", 7.0, 8.0)) == "7.35"
    assert value_text(7.3512, 0.0) == "7.351"
    assert value_text(None, None) == "–"


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    """Two predicted designs, one simulated, the other simulated and measured; one that waits."""
    path = tmp_path_factory.mktemp("values") / "ledger.db"
    with Ledger.open(path) as ledger:
        number = start_campaign(ledger)
        designs = propose("loop", 1, 3, np.random.default_rng(0))
        predicted = [{PROPERTY: {"mean": 8.0 + i, "std": 0.25}} for i in range(3)]
        ledger.plan_batch(number, "loop", 1, designs, predicted=predicted)
        plain = Outcome("ok", rule(designs[0]))
        values = {**rule(designs[1]), PROPERTY: 8.125, TWIN: 8.5}
        twice = Outcome("ok", values, uncertainty={PROPERTY: 0.0625})
        for position, outcome, fidelity in ((0, plain, "simulated"), (1, twice, "measured")):
            found = dict.fromkeys(outcome.values, "simulated") | {PROPERTY: fidelity}
            ledger.add_outcomes(
                number, "loop", 1, [position], [outcome],
                simulator="rule", version=fidelity, targets=TARGETS,
                fidelity=found,  # type: ignore[arg-type]
            )  # fmt: skip
        yield Snapshots(ledger).get(NAME)


def test_points_of_a_chart_know_how_sure_they_are(snapshot: Snapshot) -> None:
    points = chart_points(snapshot, PROPERTY, "predicted")
    assert list(points["x"]) == [8.0, 9.0]
    assert list(points["x_std"]) == [0.25, 0.25]
    assert np.isnan(points["y_std"].iloc[0])
    assert points["y_std"].iloc[1] == 0.0625
    assert list(points["kind"]) == ["simulated", "measured"]
    assert len(chart_points(snapshot, PROPERTY, "requested")) == 2
    assert chart_points(snapshot, PROPERTY, "requested")["x_std"].isna().all()


def test_a_tooltip_names_how_each_value_was_found(snapshot: Snapshot) -> None:
    points = chart_points(snapshot, PROPERTY, "predicted")
    options = requested_chart(points, PROPERTY, Range(PROPERTY, 8.0, 8.2), "predicted", "found")
    _, series = options["series"]
    first, second = (point["name"].splitlines()[1:] for point in series["data"])
    assert first[0] == "predicted 8.00 ± 0.25"
    assert first[1].startswith("simulated 8.")
    assert "±" not in first[1]
    assert second == ["predicted 9.00 ± 0.25", "measured 8.125 ± 0.062", OF_ITSELF]
