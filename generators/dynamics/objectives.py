"""The regression that trains any kind of prediction, and what its loss can't go below."""

from __future__ import annotations

from torch import Tensor

from generators.dynamics.parameterisation import Field, Kind, noised, regression_target
from generators.dynamics.schedules import Path


def denoising_loss(
    predict: Field, kind: Kind, path: Path, x0: Tensor, t: Tensor, epsilon: Tensor
) -> Tensor:
    """‖target − predict(x_t, t)‖² of each row, summed over its dimensions, (b,).

    For ``epsilon`` it is L_simple (Ho et al. 2020, equation 14), for ``score`` denoising score
    matching (Vincent 2011; over several levels with weight λ(σ) = σ², Song & Ermon 2019). Multiply
    by ``elbo_weight`` for the likelihood's bound or by ``min_snr_weight``.
    x0 and epsilon (b, ...), t (b,) in the path's time. Not even an exact prediction brings the mean
    to 0: on data N(m, s²) in d dimensions the floors are d α² s²/v_t for ε with
    v_t = α² s² + σ², and d α² s²/(σ² v_t) for the score.
    """
    level = path.level(t)
    error = predict(noised(x0, epsilon, level), t) - regression_target(x0, epsilon, level, kind)
    return error.square().flatten(1).sum(1)
