"""What campaign and simulators must agree on before anything is run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loop.errors import InvalidCampaignError, unknown_name
from loop.protocols import Limited, Simulator
from loop.targets import Targets


def check_outputs(simulators: Sequence[Simulator]) -> None:
    """Refuse two simulators that give the same property: one value would hide the other.

    Raises InvalidCampaignError, naming the property and both simulators.
    """
    givers: dict[str, str] = {}
    for simulator in simulators:
        for name in simulator.outputs:
            if name in givers:
                raise InvalidCampaignError(
                    f"simulators.use: {givers[name]!r} and {simulator.name!r} both give {name}; "
                    "let only one of them give it (leave it out of the other's outputs) or use "
                    "only one of them"
                )
            givers[name] = simulator.name


def check_targets(targets: Targets, simulators: Sequence[Simulator]) -> None:
    """Refuse targets that cannot be met.

    Raises InvalidCampaignError when a target names a property that no simulator gives, or when
    all that it accepts lies outside the simulator's limits (``protocols.Limited``).
    """
    units = {name: unit for s in simulators for name, unit in s.outputs.items()}
    limits = {k: v for s in simulators if isinstance(s, Limited) for k, v in s.limits.items()}
    for target in targets:
        if target.name not in units:
            raise InvalidCampaignError("targets: " + unknown_name("property", target.name, units))
        low, high = limits.get(target.name, (-math.inf, math.inf))
        if target.high < low or target.low > high:
            unit = units[target.name]
            raise InvalidCampaignError(
                f"target {target.name}: {_span(target.low, target.high)} is out of reach; with "
                f"the phases and bounds of this space it is {_span(low, high)}"
                f"{'' if unit == '1' else f' {unit}'} in every design; ask within that or widen "
                "the space"
            )


def _span(low: float, high: float) -> str:
    if math.isinf(low):
        return f"at most {high:.6g}"
    return f"at least {low:.6g}" if math.isinf(high) else f"{low:.6g} to {high:.6g}"
