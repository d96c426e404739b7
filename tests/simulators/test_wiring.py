"""Simulators that hand values to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.protocols import Simulator
from loop.space import DesignSpace
from simulators import registry
from simulators.contract import CHECKS, Check
from simulators.wiring import TakesInputs, Wirable, Wired, Wires, connect
from tests.simulators.conftest import ImageMaker
from tests.simulators.designs import COMPOSITE, ORDERED, composite, composites, superalloy

SHEAR = "shear_modulus_GPa"
STRENGTH: dict[str, Any] = {
    "pixel_size_nm": 5.0,
    "burgers_vector_nm": 0.25,
    "apb_energy_J_per_m2": 0.2,
    "outputs": ["precipitation_strengthening_MPa"],
}


class Source:
    """Gives the shear modulus 70 + 10 f of an image with a fraction f of the second phase."""

    version = "1"

    def __init__(self, name: str = "source", output: str = "matrix_shear_modulus_GPa") -> None:
        self.name = name
        self.outputs: Mapping[str, str] = {output: "GPa", f"{name}_count": "1"}

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        modulus, count = self.outputs
        found = []
        for candidate in candidates:
            assert candidate.microstructure is not None
            f = float(candidate.microstructure.mean())
            if f == 0:
                found.append(Outcome.failed("nothing to measure"))
                continue
            found.append(Outcome("ok", {modulus: 70 + 10 * f, count: 1.0}, diagnostics={"f": f}))
        return found


class Relay(Source):
    """Takes "in" in GPa and gives it on, one more."""

    def __init__(self, name: str, output: str) -> None:
        super().__init__(name)
        self.outputs: Mapping[str, str] = {output: "GPa"}
        self.inputs = {"in": "GPa"}

    def evaluate_given(
        self, candidates: Sequence[Candidate], given: Sequence[Mapping[str, float]]
    ) -> list[Outcome]:
        (output,) = self.outputs
        return [Outcome("ok", {output: values["in"] + 1}) for values in given]


def strength(**more: Any) -> Simulator:
    return registry.create(
        "precipitation-strength", space=composite(), settings=STRENGTH | more, wired=(SHEAR,)
    )


WIRES: Wires = {"precipitation-strength": {SHEAR: "matrix_shear_modulus_GPa"}}


@pytest.fixture
def designs(random_images: ImageMaker) -> list[Candidate]:
    images = random_images(4, (24, 24), seed=3)
    images[2] = 0
    return composites(images)


def test_the_value_arrives(designs: list[Candidate]) -> None:
    """As if the number had stood in the settings of each design."""
    (wired,) = connect([strength(), Source()], WIRES)
    assert wired.name == "precipitation-strength+source"
    outcomes = wired.evaluate(designs)
    for candidate, outcome in zip(designs, outcomes, strict=True):
        (told,) = Source().evaluate([candidate])
        if told.status != "ok":
            assert (outcome.status, outcome.reason) == ("failed", "nothing to measure")
            continue
        modulus = told.values["matrix_shear_modulus_GPa"]
        plain = registry.create(
            "precipitation-strength",
            space=composite(),
            settings=STRENGTH | {"shear_modulus_GPa": modulus},
        )
        (alone,) = plain.evaluate([candidate])
        assert outcome.values == {**alone.values, **told.values}
        notes: Any = outcome.diagnostics
        assert notes["source"] == {"f": told.diagnostics["f"]}
        assert notes["precipitation-strength"]["constants"]["shear_modulus_GPa"] == modulus


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Check, designs: list[Candidate]) -> None:
    check(Wired([strength(), Source()], WIRES), designs)


def test_phase_moduli_from_another_simulator(designs: list[Candidate]) -> None:
    """Two phases with the same K and G are a uniform body: E = 9 K G / (3 K + G)."""
    space = composite()
    a, b = space.phases
    keys = [f"{phase}.{name}" for phase in (a, b) for name in ("bulk_modulus_GPa", SHEAR)]
    kept = {
        phase: {k: v for k, v in given.items() if k not in ("youngs_modulus_GPa", "poissons_ratio")}
        for phase, given in COMPOSITE.items()
    }
    chain = registry.create(
        "composite-chain", space=space, settings={"phase_properties": kept}, wired=keys
    )
    source = Source()
    wires = {"composite-chain": dict.fromkeys(keys, "matrix_shear_modulus_GPa")}
    (wired,) = connect([source, chain], wires)
    (outcome,) = wired.evaluate(designs[:1])
    modulus = outcome.values["matrix_shear_modulus_GPa"]
    assert outcome.values["youngs_modulus_GPa"] == pytest.approx(9 / 4 * modulus, rel=1e-9)
    assert "youngs_modulus_GPa" not in wired.limits  # type: ignore[attr-defined]


def test_versions_tell_the_wires() -> None:
    plain = registry.create("composite-chain", space=superalloy(), settings=ORDERED)
    wired = registry.create(
        "composite-chain", space=superalloy(), settings=ORDERED, wired=["gamma.density_g_per_cm3"]
    )
    assert plain.version != wired.version
    one = Wired([strength(), Source()], WIRES)
    other = Wired(
        [strength(), Source()], {"precipitation-strength": {SHEAR: "matrix_shear_modulus_GPa"}}
    )
    assert one.version == other.version


def test_chains_run_in_order(designs: list[Candidate]) -> None:
    """Whatever the order in which they are named."""
    parts: list[Any] = [Relay("last", "c"), Source("first", "a"), Relay("middle", "b")]
    wired = Wired(parts, {"last": {"in": "b"}, "middle": {"in": "a"}})
    (outcome,) = wired.evaluate(designs[:1])
    assert outcome.values["c"] == outcome.values["b"] + 1 == outcome.values["a"] + 2


def test_those_without_wires_stay_as_they_are() -> None:
    source, other = Source(), Source("other", "b")
    assert connect([source, other], {}) == [source, other]
    made = connect([source, other, strength()], WIRES)
    assert [s.name for s in made] == ["source+precipitation-strength", "other"]


@pytest.mark.parametrize(
    ("parts", "wires", "message"),
    [
        ([Source(), Source("o", "b")], {"o": {"in": "b"}}, "o takes no inputs"),
        ([Source(), Relay("r", "b")], {"r": {"on": "b"}}, "'on'.*did you mean|expected.*in"),
        ([Source(), Relay("r", "b")], {"r": {"in": "matrix_shear_moduls_GPa"}}, "output"),
        ([Source(), Relay("r", "b")], {"r": {"in": "source_count"}}, "is in GPa.*is in 1"),
        (
            [Relay("r", "b"), Relay("q", "a")],
            {"r": {"in": "a"}, "q": {"in": "b"}},
            "runs in a circle: .*r.*q",
        ),
    ],
    ids=["no inputs", "unknown input", "unknown output", "units", "circle"],
)
def test_wires_that_cannot_be(parts: list[Any], wires: Wires, message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        connect(parts, wires)


def test_settings_and_wires_must_not_both_say_it() -> None:
    with pytest.raises(InvalidCampaignError, match="keep one of the two"):
        strength(shear_modulus_GPa=80.0)
    with pytest.raises(InvalidCampaignError, match="is missing; give it"):
        registry.create("precipitation-strength", space=composite(), settings=STRENGTH)
    phase = composite().phases[0]
    with pytest.raises(InvalidCampaignError, match="keep one of the two"):
        registry.create(
            "composite-chain",
            space=composite(),
            settings={"phase_properties": COMPOSITE},
            wired=[f"{phase}.density_g_per_cm3"],
        )
    with pytest.raises(InvalidCampaignError, match=r"wired alone; wire .*bulk.*shear"):
        registry.create(
            "composite-chain", space=composite(), settings={}, wired=[f"{phase}.{SHEAR}"]
        )
    with pytest.raises(InvalidCampaignError, match="takes no inputs"):
        registry.create("measured", space=composite(), wired=["x"])


def test_inputs_are_not_forgotten(designs: list[Candidate]) -> None:
    with pytest.raises(InvalidInputError, match=r"expected .*shear_modulus_GPa.*, as wired"):
        strength().evaluate(designs[:1])
    chain: Any = strength()
    with pytest.raises(InvalidInputError, match="1 candidates were given for 2"):
        chain.evaluate_given(designs[:2], [{SHEAR: 1.0}])
    plain: Any = registry.create(
        "composite-chain", space=composite(), settings={"phase_properties": COMPOSITE}
    )
    with pytest.raises(InvalidInputError, match=r"inputs \['x'\] were given; expected \[\]"):
        plain.evaluate_given(designs[:1], [{"x": 1.0}])


class Doubled(TakesInputs):
    """Twice what it is given; 0 where it was made for no input."""

    name, version = "doubled", "1"
    outputs: Mapping[str, str] = {"twice": "GPa"}

    def __init__(self, wired: Sequence[str] = ()) -> None:
        self.inputs = dict.fromkeys(wired, "GPa")

    def _outcomes(
        self, candidates: Sequence[Candidate], given: Sequence[Mapping[str, float]]
    ) -> list[Outcome]:
        assert len(candidates) == len(given)
        return [Outcome("ok", {"twice": 2 * sum(one.values())}) for one in given]


def test_one_of_your_own_says_only_what_comes_of_its_inputs(designs: list[Candidate]) -> None:
    """Contract, wires and refusals are those of the built-in ones."""
    plain, taking = Doubled(), Doubled(["in"])
    assert isinstance(plain, Simulator)
    assert isinstance(taking, Wirable)
    assert [o.values["twice"] for o in plain.evaluate(designs)] == [0.0] * len(designs)
    (wired,) = connect([taking, Source()], {"doubled": {"in": "matrix_shear_modulus_GPa"}})
    (outcome,) = wired.evaluate(designs[:1])
    assert outcome.values["twice"] == 2 * outcome.values["matrix_shear_modulus_GPa"]
    with pytest.raises(InvalidInputError, match=r"inputs \[\] were given; expected \['in'\], as"):
        taking.evaluate(designs[:1])


def test_in_a_process_of_its_own(designs: list[Candidate]) -> None:
    alone = registry.create(
        "precipitation-strength",
        space=composite(),
        settings=STRENGTH,
        wired=(SHEAR,),
        timeout_s=60.0,
    )
    isolated: Any = alone
    try:
        (joined,) = connect([Source(), alone], WIRES)
        near = Wired([Source(), strength()], WIRES)
        assert [o.values for o in joined.evaluate(designs)] == [
            o.values for o in near.evaluate(designs)
        ]
    finally:
        isolated.close()


def test_potential_feeds_the_chain(random_images: ImageMaker) -> None:
    """Moduli and density from a potential, as a campaign wires them."""
    space = DesignSpace(phases=("cu", "ni"), elements=("Cu", "Ni"), image_shape=(24, 24))
    properties = ("bulk_modulus_GPa", SHEAR, "density_g_per_cm3")
    settings: dict[str, Any] = {
        "atomistic": {"outputs": [f"{p}_{name}" for p in space.phases for name in properties]},
        "composite-chain": {"outputs": ["youngs_modulus_GPa", "density_g_per_cm3"]},
    }
    wires = {
        "composite-chain": {
            f"{p}.{name}": f"{p}_{name}" for p in space.phases for name in properties
        }
    }
    (wired,) = registry.create_all(
        ["composite-chain", "atomistic"], space=space, settings=settings, wires=wires
    )
    (image,) = random_images(1, (24, 24), seed=3)
    design = Candidate(
        phases=space.phases,
        elements=space.elements,
        microstructure=image,
        phase_compositions=np.eye(2),
    )
    (outcome,) = wired.evaluate([design])
    assert outcome.status == "ok", outcome.reason
    values, fraction = outcome.values, float(image.mean())
    mixed = (1 - fraction) * values["cu_density_g_per_cm3"]
    mixed += fraction * values["ni_density_g_per_cm3"]
    assert values["density_g_per_cm3"] == pytest.approx(mixed, rel=1e-12)
    young = [
        9
        * values[f"{p}_bulk_modulus_GPa"]
        * values[f"{p}_{SHEAR}"]
        / (3 * values[f"{p}_bulk_modulus_GPa"] + values[f"{p}_{SHEAR}"])
        for p in space.phases
    ]
    assert min(young) < values["youngs_modulus_GPa"] < max(young)
