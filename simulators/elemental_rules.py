"""Arithmetic of the mixing rules of ``elemental``, the same for arrays and for tensors.

``x``: (..., e) atomic fractions; columns of element data are (e,). With tensors every rule can be
differentiated by the composition.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = TypeVar("Array", NDArray[np.float64], Tensor)


def density(x: Array, mass: Array, volume: Array) -> Array:
    """Mass over volume of a mole: (...) g/cm3 from g/mol and cm3/mol."""
    return (x @ mass) / (x @ volume)


def hill(x: Array, volume: Array, modulus: Array) -> Array:
    """Mean of Voigt's and Reuss's average of a modulus by volume, (...)."""
    share = x * volume
    share = share / share.sum(-1)[..., None]
    return 0.5 * (share @ modulus + 1 / (share @ (1 / modulus)))


def resistance(x: Array, pure: Array, pairs: Array, ordered: Array) -> Array:
    """Electronic thermal resistance in m K/W, (...): by the elements and by their disorder.

    ``pure``: electronic conductivities of the elements, W/mK. ``pairs``: Linde's C_ij over L T,
    (e, e), zero on the diagonal. ``ordered``: 1 - S^2, broadcast to (...).
    """
    return x @ (1 / pure) + ordered * 0.5 * ((x @ pairs) * x).sum(-1)


def cost(x: Array, mass: Array, price: Array) -> Array:
    """Price by mass: (...) USD/kg."""
    masses = x * mass
    return (masses @ price) / masses.sum(-1)
