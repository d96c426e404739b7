"""Graded microstructures: designs whose local phase fractions follow a map.

A branch that was trained beside the flow (``adaptation_control``) steers it; images larger than the
flow's own are put together of overlapping windows, each steered by its part of the map.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from generators.adaptation_flow import AdaptedFlow, transformer_of
from generators.adaptation_maps import checked_map, resampled, window_sizes, windowed
from generators.adaptation_settle import settled
from generators.dynamics.flow import Velocity, interpolate
from generators.dynamics.samplers import heun, uniform_times
from generators.editing import tiled, vary
from generators.flow import JointFlow, together
from generators.networks.control import ControlBranch
from generators.training.checkpoint import torch_generator
from loop.candidate import Candidate
from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
STRENGTH = 1.0
SETTLE = 12  # steps; each about the cost of decoding and back
ROUNDS, SHARE, STEPS = 2, 0.4, 4  # of denoising again: how far back to noise, in how many steps


def controlled(
    flow: JointFlow, branch: ControlBranch, hints: Tensor, strength: float
) -> AdaptedFlow:
    """The flow steered by ``hints``, (m, h, w) for all designs or (b, m, h, w) for each."""
    network = transformer_of(flow)

    def adapted(x: Tensor, t: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        each = hints.expand(len(x), *hints.shape[-3:])
        return network(x, t, y, mask, branch(x, t, y, mask, each))

    return AdaptedFlow(flow, adapted, strength)


@torch.no_grad()
def graded(
    flow: JointFlow,
    branch: ControlBranch,
    fractions: ArrayLike,
    n: int,
    *,
    rng: np.random.Generator,
    shape: tuple[int, int] | None = None,
    window: tuple[float, float] = (16.0, 16.0),
    strength: float = STRENGTH,
    settle: int = SETTLE,
    requests: FloatArray | None = None,
    guidance: float = 1.0,
) -> list[Candidate]:
    """n designs whose local phase fractions follow a map.

    ``fractions``: (p - 1, h, w) of all phases but the first, at any resolution, or (h, w) with two
    phases. ``shape``: (H, W) px of the images, by default the flow's own; larger ones are put
    together of overlapping windows (``editing.tiled``) and are not periodic where they are larger.
    ``window``: px down and along over which the fractions are to be met, rounded to those that
    the branch knows; (64, 16) asks for the means of columns. ``strength``: see ``AdaptedFlow``.
    ``settle``: steps by which interfaces are moved to meet the fractions (``settled``), thrice:
    twice the design is then noised part of the way and denoised under the map, so that what was
    moved looks like a micrograph again. 0 leaves the samples as they are.
    ``requests`` (n, k), or (n, k + l) with labels: NaN where none; for images of the flow's own
    size.
    Raises InvalidInputError for a map that is none, smaller images, and a window below a pixel.
    """
    network, code = transformer_of(flow), flow.code
    own, cells = flow.space.image_shape, network.latent_shape
    assert code is not None
    assert code.vae is not None
    assert own is not None
    assert cells is not None
    wanted = checked_map(fractions, len(flow.space.phases))
    shape = shape or own
    if shape[0] < own[0] or shape[1] < own[1]:
        raise InvalidInputError(
            f"images of {shape[1]} x {shape[0]} px; this flow makes {own[1]} x {own[0]} and larger"
        )
    if not min(window) >= 1 or n < 1 or settle < 0:
        raise InvalidInputError(
            f"{n} designs with windows of {window[0]:g} x {window[1]:g} px and {settle} steps; "
            "expected at least one design, windows of a pixel or more and no negative steps"
        )
    asked = flow.requests_for(n, requests)
    if np.isfinite(asked).any() and shape != own:
        raise InvalidInputError(
            "requests of properties were given for larger images; a flow knows them for "
            f"{own[1]} x {own[0]} px alone"
        )
    canvas = _Canvas(own, shape, own[0] // cells[1])
    size = _window_size(window, canvas.cell, cells[1:])
    hints = windowed(resampled(wanted, canvas.image_cells)[None], size).to(flow.device)
    source = torch_generator(rng)
    maps, logits = hints[0, : len(wanted)], code.vae.logits

    def met(latents: Tensor) -> Tensor:
        return settled(latents, logits, maps, size, steps=settle)

    use = met if settle else None
    if shape == own:
        latents, vectors = _own(flow, branch, hints[0], asked, strength, guidance, use, source)
    else:
        latents, vectors = _large(flow, branch, hints, canvas, n, strength, use, source)
    latents = met(latents)
    images = code.vae.decode(latents)[:, : shape[0], : shape[1]]
    if shape == own:
        vectors = flow.redraw(images, vectors, asked, guidance, source)
    details = {"graded": {"window_px": list(window), "strength": strength, "settle": settle}}
    origins = [flow.origin(row, guidance, **details) for row in asked]
    return code.candidates(images, code.compositions_of(vectors), vectors, origins)


def _window_size(window: tuple[float, float], cell: int, cells: tuple[int, int]) -> tuple[int, int]:
    """Sides in cells: of those that the branch knows, the nearest."""
    known = np.array(window_sizes(cells))
    down, along = (int(known[np.abs(np.log(known * cell / px)).argmin()]) for px in window)
    return down, along


class _Canvas:
    """Where windows go on an image (H, W) larger than the flow's own.

    A larger side gets half a window more, which is cut off in the end: windows wrap around, and
    the two ends of a gradient are not to meet. There the map leads back to where it began.
    """

    def __init__(self, own: tuple[int, int], shape: tuple[int, int], cell: int) -> None:
        self.cell = cell
        self.window = own[0] // cell, own[1] // cell
        down, along = (
            self._side(w, -(-n // cell)) for w, n in zip(self.window, shape, strict=True)
        )
        self.image_cells, self.stride, self.cells = zip(down, along, strict=True)

    @staticmethod
    def _side(window: int, needed: int) -> tuple[int, int, int]:
        """Cells of the image, from one window to the next, and in all."""
        if needed == window:
            return needed, window, window
        stride = window // 2
        return needed, stride, -(-(needed + stride) // stride) * stride

    def padded(self, hints: Tensor) -> Tensor:
        """(1, m, h, w) over the image's cells -> over all cells."""
        for axis, whole in zip((2, 3), self.cells, strict=True):
            n = hints.shape[axis]
            more = whole - n
            if more:
                share = (torch.arange(more, device=hints.device) + 1.0) / (more + 1)
                share = share.reshape([-1 if i == axis else 1 for i in range(4)])
                last, first = hints.narrow(axis, n - 1, 1), hints.narrow(axis, 0, 1)
                hints = torch.cat([hints, (1 - share) * last + share * first], dim=axis)
        return hints


Met = Callable[[Tensor], Tensor]  # latents of images (n, c, h, w), and such as meet the map


def _again(velocity: Velocity, x: Tensor, met: Met, draw: Callable[[], Tensor]) -> Tensor:
    """States (b, ...) that were brought to the map and denoised once more, ``ROUNDS`` times."""
    for _ in range(ROUNDS):
        x = vary(velocity, met(x), draw(), STEPS, strength=SHARE)
    return x


def _own(
    flow: JointFlow,
    branch: ControlBranch,
    hints: Tensor,
    asked: FloatArray,
    strength: float,
    guidance: float,
    met: Met | None,
    source: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Latents (n, c, h, w) of images of the flow's own size, and coded vectors (n, v)."""
    size = transformer_of(flow).state_size
    steered = controlled(flow, branch, hints, strength)

    def draw(b: int) -> Tensor:
        return torch.randn(b, size, generator=source).to(flow.device)

    def nearer(x: Tensor) -> Tensor:
        latents, vectors = flow.parts(x)
        assert latents is not None
        assert met is not None
        return torch.cat([met(latents).flatten(1), vectors], dim=1)

    noise = draw(len(asked))
    states = []
    most = together(flow.trained_network().latent_shape)
    for start in range(0, len(asked), most):
        rows = slice(start, start + most)
        x = steered.sample(noise[rows], asked[rows], guidance)
        if met is not None:
            velocity = steered.velocity(asked[rows], guidance)
            x = _again(velocity, x, nearer, partial(draw, len(x)))
        states.append(x)
    latents, vectors = flow.parts(torch.cat(states))
    assert latents is not None
    return latents, vectors


def _large(
    flow: JointFlow,
    branch: ControlBranch,
    hints: Tensor,
    canvas: _Canvas,
    n: int,
    strength: float,
    met: Met | None,
    source: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Latents (n, c, rows, columns) of larger images, and the coded vectors (n, v) of each.

    The vectors are those of designs that the flow makes by itself. Beside every window they stand
    noised to its time; the map goes along as channels of the state that do not move.
    """
    network = transformer_of(flow)
    assert network.latent_shape is not None
    c, k = network.latent_shape[0], len(flow.properties)
    rows, columns = canvas.image_cells
    padded = canvas.padded(hints)
    times = uniform_times(flow.settings.sample_steps).to(flow.device)
    places = (canvas.cells[0] // canvas.stride[0]) * (canvas.cells[1] // canvas.stride[1])
    most = max(1, together(network.latent_shape) // places)

    def draw(b: int) -> Tensor:
        latent = torch.randn(b, c, *canvas.cells, generator=source).to(flow.device)
        return torch.cat([latent, padded.expand(b, -1, -1, -1)], dim=1)

    def nearer(x: Tensor) -> Tensor:
        assert met is not None
        moved = x.clone()
        moved[:, :c, :rows, :columns] = met(x[:, :c, :rows, :columns])
        return moved

    found, kept = [], []
    for start in range(0, n, most):
        b = min(most, n - start)
        first = torch.randn(b, network.state_size, generator=source).to(flow.device)
        _, vectors = flow.parts(flow.sample(first, np.full((b, k), np.nan), 0.0))
        noise = torch.randn(vectors.shape, generator=source).to(flow.device)
        whole = tiled(
            _windows(flow, branch, vectors, noise, strength), canvas.window, canvas.stride
        )
        x = heun(whole, draw(b), times)
        if met is not None:
            x = _again(whole, x, nearer, partial(draw, b))
        found.append(x[:, :c, :rows, :columns])
        kept.append(vectors)
    return torch.cat(found), torch.cat(kept)


def _windows(
    flow: JointFlow, branch: ControlBranch, vectors: Tensor, noise: Tensor, strength: float
) -> Velocity:
    """Velocity of windows (places b, c + m, h, w) whose last m channels are the map."""
    shape = transformer_of(flow).latent_shape
    assert shape is not None

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        places = len(x) // len(vectors)
        beside = interpolate(vectors.repeat(places, 1), noise.repeat(places, 1), t)
        latent, hints = x[:, : shape[0]], x[:, shape[0] :]
        steered = controlled(flow, branch, hints, strength)
        nothing = np.full((len(x), len(flow.properties)), np.nan)
        state = torch.cat([latent.flatten(1), beside], dim=1)
        moved, _ = flow.parts(steered.velocity(nothing, 0.0)(state, t))
        assert moved is not None
        return torch.cat([moved, torch.zeros_like(hints)], dim=1)

    return velocity
