"""Designs come back from the ledger bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loop.candidate import Candidate, Origin
from loop.ledger import Ledger
from loop.ledger_rows import decode_image, encode_image
from tests.loop.ledger_fixtures import campaign, design


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("shared") / "ledger.db") as opened:
        yield opened


images = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.integers(0, 2),
)


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    """Candidates of every kind: with and without image, compositions, process variables."""
    image = draw(st.none() | images)
    elements = tuple(draw(st.permutations(["Ni", "Al", "Cr", "Re"]))[: draw(st.integers(1, 4))])
    x = None
    if image is None or draw(st.booleans()):
        amounts = draw(
            hnp.arrays(np.float64, (3, len(elements)), elements=st.floats(0.0, 1.0, width=64))
        )
        amounts[:, 0] += 0.1
        x = amounts / amounts.sum(axis=1, keepdims=True)
    variables = st.dictionaries(
        st.sampled_from(["temperature_K", "time_h"]),
        st.floats(allow_nan=False, allow_infinity=False),
    )
    return Candidate(
        phases=("matrix", "precipitate", "void"),
        elements=elements if x is not None else (),
        microstructure=image,
        phase_compositions=x,
        process=draw(variables),
        origin=Origin(draw(st.text(min_size=1, max_size=5, alphabet="aé'\"%;γ")), draw(
            st.none() | st.floats(0, 9)), {"requested": {"p": draw(st.floats(-1, 1))}}),
    )  # fmt: skip


@given(images)
def test_images_survive_as_png(image: np.ndarray) -> None:
    blob = encode_image(image)
    assert blob == encode_image(image.copy())
    back = decode_image(blob)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, image)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batch=st.lists(candidates(), min_size=1, max_size=3), data=st.data())
def test_candidates_survive_bit_for_bit(
    shared: Ledger, batch: list[Candidate], data: st.DataObject
) -> None:
    number = campaign(shared)
    index = len(shared.evaluations(number, columns=["id"]))  # a round that is still free
    shared.plan_batch(number, "loop", index, batch)
    for before, after in zip(batch, shared.planned(number, "loop", index), strict=True):
        assert after.id == before.id
        assert (after.phases, after.elements) == (before.phases, before.elements)
        assert dict(after.process) == dict(before.process)
        assert after.origin == before.origin
        if before.microstructure is None:
            assert after.microstructure is None
        else:
            np.testing.assert_array_equal(after.microstructure, before.microstructure)
        if before.phase_compositions is None:
            assert after.phase_compositions is None
        else:
            assert after.phase_compositions is not None
            # An id forgets what is below 1e-12, so of two designs that share one the first stays.
            np.testing.assert_allclose(
                after.phase_compositions, before.phase_compositions, rtol=0, atol=1e-12
            )
    # A design that the ledger has not seen comes back in all its 53 bits.
    x = np.array([[data.draw(st.floats(0.2, 0.8)), 0.0]] * 3)
    x[:, 1] = 1.0 - x[:, 0]
    fresh = Candidate(
        batch[0].phases, ("W", "Ta"), None, x, {"time_h": float(index)}, Origin("library")
    )
    shared.plan_batch(number, "random", index, [fresh])
    (back,) = shared.planned(number, "random", index)
    assert back.phase_compositions is not None
    assert back.phase_compositions.tobytes() == x.tobytes()


def test_elements_come_back_in_the_order_of_the_campaign(ledger: Ledger) -> None:
    first, second = campaign(ledger), campaign(ledger, "other")
    one = design(4)  # without rhenium
    assert one.phase_compositions is not None
    turned = Candidate(
        one.phases,
        ("W", "Al", "Ni"),
        one.microstructure,
        np.stack([np.zeros(2), one.phase_compositions[:, 1], one.phase_compositions[:, 0]], axis=1),
        one.process,
        one.origin,
    )
    assert turned.id == one.id
    ledger.plan_batch(first, "loop", 1, [one])
    ledger.plan_batch(second, "loop", 1, [turned])
    for number, expected in ((first, one), (second, turned)):
        (back,) = ledger.planned(number, "loop", 1)
        assert back.elements == expected.elements
        np.testing.assert_array_equal(back.phase_compositions, expected.phase_compositions)
