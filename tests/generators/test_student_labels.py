"""Students of teachers with labels: what they are taught of them, and that they are obeyed."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.distil import Effort, distil
from generators.flow import JointFlow
from generators.labels import label_bits
from generators.registry import PRESETS
from generators.student import SCALE_MIDDLE, JointStudent, StudentSettings
from generators.student_files import load_student
from generators.training.checkpoint import torch_generator
from generators.training.distillation import endpoint_error
from generators.training.flow_matching import Draws, Rows, RunSettings
from generators.walks import FREE, Walks, spread_requests
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.process_labels import label_codes
from loop.protocols import silent
from tests import libraries
from tests.generators import test_sparse_generators as alloys
from tests.generators.test_flow import TINY
from tests.generators.test_label_children import labelled
from tests.generators.test_student import LITTLE

FloatArray = NDArray[np.float64]
TEACHER = "a" * 64
KINDS = ("alloys", "diffusion", "images")
WIDTHS = (3, 2)  # values of "processing" and of "quench" in either space


@cache
def teacher(kind: str) -> JointFlow:
    """Trained for a second: of alloys with two labels, or of images and alloys with the same."""
    if kind != "images":
        found = alloys.trained("joint-flow" if kind == "alloys" else kind)
        assert isinstance(found, JointFlow)
        return found
    library = labelled("image and compositions")
    space = library.space
    flow = JointFlow(space, library, libraries.targets(space), libraries.properties(space), TINY)
    designs = library.draw(40, rng=np.random.default_rng(0))
    return flow.fit(libraries.scored(designs), rng=np.random.default_rng(1))


def values(flow: JointFlow) -> FloatArray:
    """(m, k) property values of what there is: of the records, or by the rule."""
    if flow.properties == ("hardness_HV",):
        _, records = alloys.world()
        return np.array([[r.outcome.values["hardness_HV"]] for r in records])
    designs = flow.library.draw(40, rng=np.random.default_rng(0))
    return np.array([[libraries.rule(c)[k] for k in flow.properties] for c in designs])


@cache
def student(kind: str) -> JointStudent:
    flow, rng = teacher(kind), np.random.default_rng(4)
    return distil(flow, values(flow), teacher=TEACHER, rng=rng, effort=LITTLE)


def requests(flow: JointFlow, n: int, seed: int = 0) -> FloatArray:
    """(n, k + l) subsets of properties and labels, as ``distil`` spreads them."""
    return spread_requests(flow, values(flow), n, np.random.default_rng(seed))


def codes_of(flow: JointFlow, found: list[Candidate]) -> NDArray[np.int64]:
    return label_codes(flow.space, found)


def blocks(flow: JointFlow) -> list[slice]:
    """The columns of each label among the conditions."""
    ends = np.cumsum((len(flow.properties), *WIDTHS))
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


# That labels are obeyed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_labels_that_are_asked_for_are_had(kind: str, guidance: float) -> None:
    """Of every row its own, whatever else it asks for; those that are free are drawn."""
    found = student(kind)
    asked = requests(found, 48)
    designs = found.generate(asked, guidance=guidance, rng=np.random.default_rng(1))
    assert not [v for c in designs for v in found.space.violations(c)]
    codes, wanted = codes_of(found, designs), asked[:, len(found.properties) :]
    there = np.isfinite(wanted)
    assert 20 < there.sum() < 76  # half of 96: more than 5 standard deviations to either side
    assert np.array_equal(codes[there], wanted[there])
    names = [list(v) for v in found.space.labels.values()]
    for c, row in zip(designs, wanted, strict=True):
        expected = {
            label: names[j][int(row[j])]
            for j, label in enumerate(found.space.labels)
            if np.isfinite(row[j])
        }
        assert c.origin.details.get("requested_labels", {}) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_they_can_be_named_where_targets_are_asked_for(kind: str) -> None:
    found = student(kind)
    for labels in ({"processing": "WROUGHT"}, {"processing": "CAST", "quench": "air"}):
        designs = found.propose(
            6, found.targets, guidance=2.0, rng=np.random.default_rng(2), labels=labels
        )
        for c in designs:
            assert labels.items() <= c.labels.items()
            assert c.origin.details["requested_labels"] == labels
            assert set(c.origin.details["requested"]) == set(found.properties)


def test_what_is_no_label_of_the_space_is_refused() -> None:
    found, rng = student("alloys"), np.random.default_rng(0)
    for labels, message in (
        ({"procesing": "CAST"}, r"procesing.*processing"),
        ({"processing": "CASTED"}, r"CASTED.*CAST"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            found.propose(2, found.targets, guidance=2.0, rng=rng, labels=labels)
    for wrong in (3.0, 0.5, -2.0):
        with pytest.raises(InvalidInputError, match="label codes that are not the space's"):
            found.generate(np.array([[350.0, wrong, np.nan]]), guidance=2.0, rng=rng)
    with pytest.raises(InvalidInputError, match=r"shape \(1, 2\); expected \(n, 1\).*\(n, 3\)"):
        found.generate(np.array([[350.0, 0.0]]), guidance=2.0, rng=rng)


def test_a_checkpoint_gives_the_same_designs_of_the_same_labels(tmp_path: Path) -> None:
    found = student("alloys")
    _, path = found.save(tmp_path)
    again = load_student(teacher("alloys"), path, teacher=TEACHER)
    asked = requests(found, 12)
    for scale in (0.0, 2.0):
        one, other = (
            s.generate(asked, guidance=scale, rng=np.random.default_rng(3)) for s in (found, again)
        )
        assert [c.id for c in one] == [c.id for c in other]


# What is taught


@torch.no_grad()
@pytest.mark.parametrize("kind", ["alloys", "images"])
def test_before_its_first_lesson_it_is_the_teacher(kind: str) -> None:
    """The guidance scale comes after the labels' columns, which stay where the teacher has them."""
    flow = teacher(kind)
    fresh = JointStudent.of(flow, StudentSettings(guidance=(1.0, 3.0)), TEACHER)
    theirs, mine = flow.trained_network(), fresh.trained_network()
    n = 64
    source = torch_generator(np.random.default_rng(0))
    x = torch.randn(n, theirs.state_size, generator=source)
    t, asked = torch.linspace(0, 1, n), requests(flow, n)
    y, known = flow.conditions(asked)
    for scale in (1.0, 2.5):
        found = mine(x, t, *fresh.scaled_conditions(asked, scale))
        torch.testing.assert_close(found, theirs(x, t, y, known), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(
        theirs(x, t, y, known), theirs(x, t, y, torch.zeros_like(known)), atol=1e-3
    )


@cache
def lessons(kind: str) -> tuple[Walks, FloatArray, Tensor, Tensor]:
    """Walks under n requests (n, k + l) and their conditions and masks (n, c + 1)."""
    flow, n = teacher(kind), 1024
    fresh = JointStudent.of(flow, StudentSettings(guidance=(1.0, 3.0)), TEACHER)
    rng = np.random.default_rng(8)
    walks = Walks.of(flow, fresh, values(flow), n, rng)
    y, known = walks.states(2, 2, torch_generator(rng), silent).conditions
    assert y.shape == known.shape == (n, sum(flow.widths) + 1)
    return walks, walks.requests, y, known


def test_lessons_show_labels_as_the_teachers_training_did() -> None:
    """Every label whole or not at all, its values +1 and -1: the same rows occur in both.

    The teacher saw 400 records in 8 batches of 128, so that any of four kinds of rows is there.
    """
    flow = teacher("alloys")
    _, _, y, known = lessons("alloys")
    _, records = alloys.world()
    conditions = flow.learned_conditions([r.candidate for r in records], values(flow))
    n = len(records)
    rows = Rows(torch.zeros(n, 1), conditions, np.ones(n), torch.zeros(9, 1), flow.widths)
    settings = PRESETS["tiny"]
    rng = np.random.default_rng(9)
    draw = Draws(rows, RunSettings(flow.wanted(), settings, True, "cpu", rng, silent), 128)
    batches = [draw()[2:] for _ in range(8)]
    theirs, masks = (torch.cat(parts) for parts in zip(*batches, strict=True))
    for block, width in zip(blocks(flow), WIDTHS, strict=True):
        kinds = []
        for given, mask in ((y, known), (theirs, masks)):
            shown = torch.where(mask[:, block], given[:, block], 0.0)
            assert torch.equal(shown != 0, mask[:, block])
            kinds.append({tuple(row) for row in shown.tolist()})
        assert kinds[0] == kinds[1]
        assert len(kinds[0]) == 1 + width


@pytest.mark.parametrize("kind", ["alloys", "images"])
def test_lessons_are_of_the_labels_that_were_asked_for(kind: str) -> None:
    """Each value as often as any other within 4 standard errors, and the scale after them."""
    flow = teacher(kind)
    walks, asked, y, known = lessons(kind)
    k, n = len(flow.properties), len(asked)
    bits = label_bits(flow.space, flow.asked_labels(asked))
    assert np.array_equal(known[:, k:-1], np.isfinite(bits))
    assert np.array_equal(y[:, k:-1], np.nan_to_num(bits))
    assert torch.equal(known[:, :k], torch.from_numpy(np.isfinite(asked[:, :k])))
    for column, width in zip(asked[:, k:].T, WIDTHS, strict=True):
        given = column[np.isfinite(column)]
        assert len(given) / n == pytest.approx((1 - FREE) / 2, abs=4 * np.sqrt(0.25 / n))
        counts = np.bincount(given.astype(int), minlength=width) / len(given)
        assert counts == pytest.approx(1 / width, abs=4 * np.sqrt(0.25 / len(given)))
    some = known[:, :-1].any(1)
    assert torch.equal(known[:, -1], some)
    scales = np.repeat(walks.scales, -(-n // len(walks.scales)))[:n]
    expected = torch.from_numpy(np.where(some, scales - SCALE_MIDDLE, 0.0)).float()
    torch.testing.assert_close(y[:, -1], expected)


@pytest.mark.parametrize("kind", ["alloys", "images"])
def test_a_tenth_of_the_lessons_asks_for_nothing(kind: str) -> None:
    """Nor for a label: that is what the student's unconditional model is learned from.

    Another tenth of the rest asks for no property, of which most still ask for a label.
    """
    flow, n = teacher(kind), 8000
    asked = requests(flow, n)
    nothing = np.isnan(asked).all(1).mean()
    k = len(flow.properties)
    alone = (np.isnan(asked[:, :k]).all(1) & np.isfinite(asked[:, k:]).any(1)).mean()
    neither = 0.25  # of the rows in which a label may be asked for
    error = 4 * np.sqrt(0.1 * 0.9 / n)
    assert nothing == pytest.approx(FREE + (1 - FREE) * FREE * neither, abs=error)
    assert alone == pytest.approx((1 - FREE) * FREE * (1 - neither), abs=error)


def test_compositions_are_taught_given_the_labels_that_are_asked_for() -> None:
    """The head's lessons begin where ``redraw`` will: at elements and labels that are decided."""
    flow = teacher("alloys")
    walks, asked, _, _ = lessons("alloys")
    rng = torch_generator(np.random.default_rng(3))
    ends = walks.states(2, 2, rng, silent).states[:, -1]
    noises = 2
    context, y, known = walks.vectors(ends, None, 2, 2, noises, rng, silent).conditions
    labels = sum(flow.widths[len(flow.properties) :])
    assert context.shape == (noises * len(asked), len(alloys.ELEMENTS) + labels)
    assert set(context.unique().tolist()) == {-1.0, 1.0}
    shown, mask = y[:, 1:-1], known[:, 1:-1]
    assert mask.any()
    assert torch.equal(context[:, -labels:][mask], shown[mask])


# What is learned


def routed(flow: JointFlow, route: str, n: int) -> FloatArray:
    """(n, k + l) requests for a route and for nothing else."""
    return flow.with_labels(np.full((n, 1), np.nan), {"processing": route})


def aluminium(found: JointFlow, route: str, n: int = 200) -> float:
    """Share of the designs asked for a route that hold aluminium."""
    designs = found.generate(routed(found, route, n), guidance=1.5, rng=np.random.default_rng(5))
    return float((alloys.compositions(designs)[:, 0] > 0).mean())


def test_it_follows_labels_as_its_teacher_does() -> None:
    """In two steps aluminium comes with CAST alone, and under requests for a label and nothing else
    lessons bring the student's ends nearer to those of the teacher's paths than they were before.
    """
    flow = alloys.learned("joint-flow")
    assert isinstance(flow, JointFlow)
    effort = Effort(paths=768, walk=8, steps=150, batch=128, noises=1, head_walk=8, head_steps=60)
    found = distil(
        flow,
        values(flow),
        teacher=TEACHER,
        guidance=1.5,
        rng=np.random.default_rng(6),
        effort=effort,
    )
    assert aluminium(found, "CAST") > 0.85
    assert aluminium(found, "WROUGHT") < 0.15
    fresh = JointStudent.of(flow, StudentSettings(guidance=(1.5, 1.5)), TEACHER)
    asked = np.concatenate([routed(flow, route, 64) for route in ("CAST", "WROUGHT")])
    source = torch_generator(np.random.default_rng(7))
    paths = Walks(flow, fresh, asked, np.array([1.5])).states(8, 8, source, silent)
    before, after = (
        endpoint_error(s.step(), s.trained_network(), paths, 2) for s in (fresh, found)
    )
    assert after < 0.8 * before
