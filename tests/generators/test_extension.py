"""Micrographs grown and repaired: given pixels stay, and what is drawn joins across every edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from generators.editing import shifted
from generators.editor import Editor
from generators.extension import wrapped
from loop.errors import InvalidInputError
from tests.generators.test_adaptation_control import learned

Image = NDArray[np.uint8]


def differing(image: Image) -> tuple[float, float, float]:
    """Shares of neighbours that differ: inside, across the lower edge, across the right one."""
    down, along = image != np.roll(image, -1, 0), image != np.roll(image, -1, 1)
    inside = np.concatenate([down[:-1].ravel(), along[:, :-1].ravel()]).mean()
    return float(inside), float(down[-1].mean()), float(along[:, -1].mean())


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor(learned(), steps=8)


@pytest.mark.parametrize("times", [(2, 2), (2, 1)])
def test_a_grown_image_holds_its_own_and_is_periodic(
    editor: Editor, times: tuple[int, int]
) -> None:
    """Across its edges neighbours differ as often as inside, within a factor of two.

    The images that it grows from are no periods: across theirs, neighbours differ about as often
    as pixels that know nothing of each other.
    """
    designs = editor.flow.library.draw(4, rng=np.random.default_rng(3))
    shares, own, seams = [], [], []
    for i, design in enumerate(designs):
        image = design.microstructure
        assert image is not None
        h, w = image.shape
        found = editor.extend(design, (times[0] * h, times[1] * w), rng=np.random.default_rng(i))
        assert found.shape == (times[0] * h, times[1] * w)
        np.testing.assert_array_equal(found[:h, :w], image)
        shares.append(differing(found))
        own.append(differing(image))
        seams.append(float((found[h - 1, :w] != found[h, :w]).mean()))
    inside, down, along = np.mean(shares, axis=0)
    assert down <= 2 * inside
    assert np.mean(seams) <= 2 * inside
    if times[1] > 1:  # a side that does not grow wraps as its image does
        assert along <= 2 * inside
    assert min(np.mean(own, axis=0)[1:]) > 3 * inside


def test_a_repaired_region_joins_the_sound_pixels(editor: Editor) -> None:
    """Across its edge neighbours differ as often as elsewhere, within a factor of two."""
    damaged = np.zeros(editor.flow.space.image_shape or (0, 0), dtype=bool)
    damaged[9:23, 5:24] = True
    edges = [np.diff(damaged, axis=axis) for axis in (0, 1)]
    shares = []
    for design in editor.flow.library.draw(6, rng=np.random.default_rng(3)):
        found = editor.repair(design, damaged, rng=np.random.default_rng(0))[0].microstructure
        assert found is not None
        steps = [np.diff(found, axis=axis) != 0 for axis in (0, 1)]
        shares.append(
            [
                np.concatenate([s[e == at] for s, e in zip(steps, edges, strict=True)]).mean()
                for at in (True, False)
            ]
        )
    across, elsewhere = np.mean(shares, axis=0)
    assert across <= 2 * elsewhere


def test_the_same_stream_grows_the_same_image(editor: Editor) -> None:
    design = editor.flow.library.draw(1, rng=np.random.default_rng(3))[0]
    h, w = editor.flow.space.image_shape or (0, 0)
    quick = Editor(editor.flow, steps=2)
    first, again, other = (
        quick.extend(design, (h, 2 * w), rng=np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    for shape in ((h + 1, w), (h, w), (0, w)):
        with pytest.raises(InvalidInputError, match="expected multiples of"):
            quick.extend(design, shape, rng=np.random.default_rng(0))


def test_wrapped_states_go_on_at_the_other_side() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert wrapped(x, (1, 0))[0, 0].tolist() == [[3, 4, 5], [0, 1, 2], [3, 4, 5], [0, 1, 2]]
    assert wrapped(x, (0, 4)).shape == (1, 1, 2, 11)
    tiled = x.repeat(1, 1, 5, 5)
    torch.testing.assert_close(wrapped(x, (3, 4)), tiled[..., 1:9, 2:13])


def test_a_velocity_seen_from_elsewhere_is_the_same_where_places_are_alike() -> None:
    """Rolled there and back: one that treats all places alike is left as it is."""
    x, t = torch.randn(2, 1, 4, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
    source = torch.Generator().manual_seed(1)
    same = shifted(lambda x, _: x + x.roll(1, -1), (True, True), source)
    torch.testing.assert_close(same(x, t), x + x.roll(1, -1))
    ramp = torch.arange(4.0)[:, None].expand(4, 6)
    along = shifted(lambda x, _: x + ramp, (False, True), source)
    for _ in range(4):
        torch.testing.assert_close(along(x, t), x + ramp)
    down = shifted(lambda x, _: x + ramp, (True, False), source)
    assert len({tuple((down(x, t) - x)[0, 0, :, 0].round().tolist()) for _ in range(32)}) == 4
