"""Fine images for coarse ones: the linear Gaussian case in closed form, and a trained flow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from generators.dynamics.gaussian import GaussianVelocity
from generators.editor import Editor
from generators.superresolution import block_error, block_fractions, likely, observed, refine
from loop.errors import InvalidInputError
from tests.generators.test_flow import trained

DOUBLE = torch.float64
SIZE, ROWS = 12, 3
A = torch.randn(ROWS, SIZE, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
NOISE = 0.05


def see(x: torch.Tensor) -> torch.Tensor:
    return x @ A.T


def test_the_most_probable_state_is_that_of_the_normal_equations() -> None:
    """(AᵀA/ν² + I/s²) x = Aᵀy/ν² + m/s²; conjugate gradients end after as many steps as values."""
    prior = torch.randn(4, SIZE, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    values = torch.randn(4, ROWS, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
    spread = 0.7
    found = likely(see, values, prior, spread=spread, noise=NOISE, turns=1)
    matrix = A.T @ A / NOISE**2 + torch.eye(SIZE, dtype=DOUBLE) / spread**2
    right = values @ A / NOISE**2 + prior / spread**2
    expected = torch.linalg.solve(matrix, right.T).T
    # The condition number is about |A|² s²/ν² = 2e3.
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_samples_of_a_gaussian_have_what_was_observed() -> None:
    """Data N(0, 1): along the observed directions values within the noise, across them N(0, 1)."""
    eye, one = torch.eye(SIZE, dtype=DOUBLE), torch.ones(SIZE, dtype=DOUBLE)
    velocity = GaussianVelocity(torch.zeros(SIZE, dtype=DOUBLE), eye, one, one[:1])
    n = 4000
    values = torch.tensor([[1.0, -0.5, 2.0]], dtype=DOUBLE).expand(n, -1)
    start = torch.randn(n, SIZE, dtype=DOUBLE, generator=torch.Generator().manual_seed(3))
    least = torch.linalg.lstsq(A, values[0]).solution  # the least-norm solution: the mean
    across = torch.linalg.svd(A, full_matrices=True)[2][ROWS:]
    narrow = []
    for steps in (32, 64):
        times = torch.linspace(0, 1, steps + 1, dtype=DOUBLE)
        found = observed(velocity, see, values, start, times, noise=NOISE)
        assert (see(found) - values).abs().max() < NOISE
        # Standard error 1/√n in each of 12 directions.
        assert (found.mean(0) - least).abs().max() < 4.5 / n**0.5
        drawn = start @ across.T
        narrow.append(float(1 - ((found - least) @ across.T).std(0).mean() / drawn.std(0).mean()))
    assert narrow[0] < 0.05  # the spread that the values leave open is kept, up to the step's error
    assert np.log2(narrow[0] / narrow[1]) == pytest.approx(1.0, abs=0.2)


def test_block_fractions_of_labels() -> None:
    labels = torch.tensor([[0, 1, 2, 2], [1, 1, 2, 0], [0, 0, 0, 0], [0, 0, 1, 1]])
    hot = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1)[None].double()
    found = block_fractions(hot, 2)
    assert found.tolist() == [[0.75, 0.0, 0.0, 0.5, 0.0, 0.75, 0.0, 0.0]]
    image = labels.numpy().astype(np.uint8)[None]
    coarse = found.numpy().reshape(2, 2, 2)
    assert block_error(image, coarse) == pytest.approx([0.0])


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor(trained("image and compositions"), steps=4)


def test_refined_designs_follow_the_coarse_image(editor: Editor) -> None:
    flow = editor.flow
    image = flow.library.draw(1, rng=np.random.default_rng(8))[0].microstructure
    assert image is not None
    h, w = image.shape
    coarse = image.reshape(h // 8, 8, w // 8, 8).mean((1, 3))
    found = refine(editor, coarse, 3, rng=np.random.default_rng(9), steps=6)
    free = flow.propose(3, None, guidance=0.0, rng=np.random.default_rng(9))
    errors = []
    for designs in (found, free):
        images = np.stack([c.microstructure for c in designs if c.microstructure is not None])
        errors.append(block_error(images, coarse).mean())
    assert errors[0] < 0.7 * errors[1]
    for c in found:
        assert flow.space.violations(c) == []
        assert c.origin.details["factor"] == 8
    again = refine(editor, coarse, 3, rng=np.random.default_rng(9), steps=6)
    assert [c.id for c in again] == [c.id for c in found]


def test_bad_coarse_images_are_named(editor: Editor) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidInputError, match="one whole factor"):
        refine(editor, np.zeros((5, 7)), 1, rng=rng)
    with pytest.raises(InvalidInputError, match="phase fractions in"):
        refine(editor, np.full((4, 4), 1.5), 1, rng=rng)
    with pytest.raises(InvalidInputError, match="requests have shape"):
        refine(editor, np.zeros((4, 4)), 1, rng=rng, requests=np.zeros((2, 1)))
    flow = trained("compositions")
    with pytest.raises(InvalidInputError, match="no images"):
        refine(Editor(flow), np.zeros((4, 4)), 1, rng=rng)
