"""Fine micrographs for a coarse one, by guidance of the trained flow through the decoder.

What is known is the phase fraction of every block of pixels. At each time of the flow the estimate
of the end is moved to where that is likely, by as much as the estimate is still uncertain:
pseudoinverse guidance (Song et al. 2023, ΠGDM, ICLR) with the nonlinear decoder linearised anew.
No network is trained for it, and any factor works.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from generators.dynamics.flow import Velocity
from generators.editor import Editor
from generators.training.checkpoint import torch_generator
from loop.candidate import Candidate
from loop.errors import InvalidInputError

FloatArray = NDArray[np.float64]
Observe = Callable[[Tensor], Tensor]  # state (b, ...) -> what is known of it (b, m)
SOFTNESS = 2.0  # temperature of the labels' probabilities
NOISE = 0.03  # standard deviation of a block's fraction: labels round it, the decoder blurs it
STEPS = 16
TURNS = 3  # at the end; one on the way there
CONJUGATE_STEPS = 3
LEAST_SPREAD = 0.5  # of the end's, in units of the observation's noise


def observed(
    velocity: Velocity,
    observe: Observe,
    values: Tensor,
    x: Tensor,
    times: Tensor,
    *,
    noise: float,
    turns: int = TURNS,
) -> Tensor:
    """Samples x_1 of a flow-matching velocity that have observe(x_1) = values, (b, m).

    At each time the estimated end x + (1 − t) v is replaced by the most probable one given the
    values, where its own variance is r² = (1 − t)²/(t² + (1 − t)²), that of a standard normal x_1;
    with the noise that the flow finds in the state it makes the state of the next time. Order 1.
    ``noise``: standard deviation of the observation. ``turns`` of Gauss-Newton at the end, as the
    observation need not be linear.
    """
    for t, after in itertools.pairwise(times):
        v = velocity(x, t.expand(len(x)))
        end, drawn = x + (1 - t) * v, x - t * v
        left = (1 - t) ** 2 / (t**2 + (1 - t) ** 2)
        n = turns if after == times[-1] else 1
        end = likely(observe, values, end, spread=float(left.sqrt()), noise=noise, turns=n)
        x = after * end + (1 - after) * drawn
    return x


def likely(
    observe: Observe, values: Tensor, prior: Tensor, *, spread: float, noise: float, turns: int
) -> Tensor:
    """The most probable state given values (b, m) of it, prior N(``prior``, spread² I).

    Gauss-Newton steps; each linear system by conjugate gradients in the space of the values, where
    it is (J Jᵀ + (noise/spread)² I) u = r and the state is prior + Jᵀ u.
    """
    state = prior
    damping = (noise / max(spread, noise * LEAST_SPREAD)) ** 2
    for turn in range(turns):
        with torch.enable_grad():
            z = state.detach().requires_grad_(True)
            found = observe(z)
            u = torch.zeros_like(found, requires_grad=True)
            (pulled,) = torch.autograd.grad(found, z, u, create_graph=True)

        def transposed(v: Tensor, found: Tensor = found, z: Tensor = z) -> Tensor:
            return torch.autograd.grad(found, z, v, retain_graph=True)[0]

        def forward(d: Tensor, pulled: Tensor = pulled, u: Tensor = u) -> Tensor:
            # Jᵀu is linear in u, and its derivative along d is J d; the forward mode of automatic
            # differentiation cannot do group normalisation on channels-last tensors.
            return torch.autograd.grad(pulled, u, d, retain_graph=True)[0]

        rest = values - found.detach()
        if turn:
            rest = rest + forward(state - prior)
        solved = _conjugate_gradients(
            lambda v: forward(transposed(v)) + damping * v, rest, CONJUGATE_STEPS
        )
        state = prior + transposed(solved)
    return state.detach()


def _conjugate_gradients(apply: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """Rows x (b, m) of apply(x) = b, symmetric and positive, each row by itself."""
    x, r = torch.zeros_like(b), b.clone()
    p, rr = r.clone(), r.square().sum(1, keepdim=True)
    for _ in range(steps):
        ap = apply(p)
        alpha = rr / (p * ap).sum(1, keepdim=True).clamp_min(1e-30)
        x, r = x + alpha * p, r - alpha * ap
        new = r.square().sum(1, keepdim=True)
        p, rr = r + new / rr.clamp_min(1e-30) * p, new
    return x


def block_fractions(fields: Tensor, factor: int) -> Tensor:
    """(b, p, h, w) phase fields -> (b, m) fractions of every phase but the first in each block."""
    return functional.avg_pool2d(fields[:, 1:], factor).flatten(1)


@torch.no_grad()
def refine(
    editor: Editor,
    coarse: ArrayLike,
    n: int,
    *,
    rng: np.random.Generator,
    requests: FloatArray | None = None,
    noise: float = NOISE,
    steps: int = STEPS,
) -> list[Candidate]:
    """n designs whose images, seen through blocks of pixels, are the coarse one.

    ``coarse``: (p − 1, h', w') fractions of the phases after the first in each block, or (h', w')
    for two phases; sides h' and w' divide the image's by one whole factor. ``requests``: (n, k)
    property values, or (n, k + l) with labels, NaN where none. Compositions are drawn to go with
    each image. Raises InvalidInputError for another shape and for what are no fractions.
    """
    flow, code = editor.flow, editor.code
    network = flow.trained_network()
    shape = flow.space.image_shape
    if shape is None or code.vae is None:
        raise InvalidInputError("this flow has no images to refine")
    wanted, factor = _blocks(np.asarray(coarse, dtype=np.float64), shape, len(flow.space.phases))
    vae = code.vae
    asked = flow.requests_for(n, requests)

    def observe(states: Tensor) -> Tensor:
        latent, _ = flow.parts(states)
        assert latent is not None
        return block_fractions((vae.logits(latent) / SOFTNESS).softmax(1), factor)

    source = torch_generator(rng)
    start = torch.randn(n, network.state_size, generator=source).to(flow.device)
    values = torch.from_numpy(wanted).float().flatten()[None].to(flow.device)
    times = torch.linspace(0.0, 1.0, steps + 1).to(flow.device)

    found = observed(
        flow.velocity(asked, editor.guidance),
        observe,
        values.expand(n, -1),
        start,
        times,
        noise=noise,
    )
    latent, vectors = flow.parts(found)
    assert latent is not None
    images = vae.decode(latent)
    vectors = flow.redraw(images, vectors, asked, editor.guidance, source)
    origins = editor.origins(asked, {"edit": "refined", "factor": factor})
    return code.candidates(images, code.compositions_of(vectors), vectors, origins)


def block_error(images: NDArray[np.uint8], coarse: ArrayLike) -> FloatArray:
    """(n,) root-mean-square difference of block fractions of label images (n, h, w) from coarse."""
    given = np.asarray(coarse, dtype=np.float64)
    wanted = given[None] if given.ndim == 2 else given
    factor = images.shape[1] // wanted.shape[1]
    hot = functional.one_hot(torch.from_numpy(images).long(), len(wanted) + 1)
    found = block_fractions(hot.permute(0, 3, 1, 2).double(), factor).numpy()
    error: FloatArray = np.sqrt(np.square(found - wanted.ravel()).mean(1))
    return error


def _blocks(coarse: FloatArray, shape: tuple[int, int], phases: int) -> tuple[FloatArray, int]:
    """(p − 1, h', w') fractions and the factor."""
    wanted = coarse[None] if coarse.ndim == 2 else coarse
    h, w = shape
    sides = wanted.shape[1:]
    factor = h // sides[0] if wanted.ndim == 3 and min(wanted.shape) > 0 else 0
    if (
        wanted.shape[0] != phases - 1
        or factor < 1
        or (factor * sides[0], factor * sides[1]) != shape
    ):
        raise InvalidInputError(
            f"coarse image has shape {coarse.shape}; expected fractions of {phases - 1} phases "
            f"after the first on a grid that divides {h} x {w} by one whole factor"
        )
    if not (
        np.isfinite(wanted).all() and (wanted >= 0).all() and (wanted.sum(0) <= 1 + 1e-9).all()
    ):
        raise InvalidInputError(
            f"coarse image has values from {np.nanmin(wanted):.6g} to {np.nanmax(wanted):.6g}; "
            "expected phase fractions in [0, 1] whose sum in a block is at most 1"
        )
    return wanted, factor
