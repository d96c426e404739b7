"""Sampling by the U-Net beside diffusers' at equal shape, parameters and network evaluations.

    python -m benchmarks.generators [--device cuda] [--repeats N] [--threads N] [--quick]

States of 4 x 16 x 16, five properties, classifier-free guidance in one joint batch, batches of 32,
weights as drawn. The arms take turns in one process, in reversed order every other round, so that
a slow spell of the machine meets all of them; a ratio is the median over the rounds of the ratio
within a round. All of it in float32 and in bf16 autocast.

- own: ``UNet``, ``samplers.euler`` under ``guidance.compose``.
- diffusers: ``UNet2DConditionModel`` as its defaults have it, five condition tokens, DDIMScheduler.
- diffusers, 2 heads: the same with a quarter of the attention heads, the same weights and products:
  the default of 8 heads of 8 channels costs it most on a CPU.
- own, n steps: what a distilled student needs, conditional alone; see ``EQUAL_ACCURACY`` for what
  such steps are worth.

On a GPU also training and sampling by the networks of the preset "gpu", see
``benchmarks.generators_gpu``. Without diffusers, which comes with the extra [peers], its arms are
left out, and the report says so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.generators_gpu import gpu_figures
from benchmarks.report import write
from generators.dynamics.guidance import compose, together
from generators.dynamics.samplers import euler, uniform_times
from generators.networks.mlp import count_parameters
from generators.networks.unet import UNet

SHAPE = (4, 16, 16)
PROPERTIES = 5
SCALE = 3.0
STUDENT_STEPS = (1, 2, 4)
TOKEN = 256  # width of the peer's condition tokens
EQUAL_ACCURACY = "results/students.json: the students' conditional error beside their teacher's"

Arm = Callable[[], Tensor]


@dataclass(frozen=True)
class Task:
    """What every arm does: ``batch`` samples in ``steps`` steps."""

    batch: int = 32
    steps: int = 50
    device: str = "cpu"
    compiled: bool = False


def own_network(device: str = "cpu") -> UNet:
    """As many parameters and floating-point operations as ``peer_network``, within 1 % and 8 %."""
    network = UNet(
        shape=SHAPE,
        properties=PROPERTIES,
        width=216,
        channels=(96, 128),
        heads=4,
        attention=(1,),
        attend=True,
    )
    return drawn(network).to(device)


def peer_network(heads: int = 8, device: str = "cpu") -> nn.Module:
    """diffusers' U-Net of two levels, its defaults otherwise, 6.55 M parameters."""
    model: nn.Module = import_module("diffusers").UNet2DConditionModel(
        sample_size=SHAPE[1],
        in_channels=SHAPE[0],
        out_channels=SHAPE[0],
        block_out_channels=(64, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TOKEN,
        attention_head_dim=heads,  # it means their number
    )
    return drawn(model).to(device)


def drawn(network: nn.Module) -> Any:
    """In evaluation mode, with small random weights where they are zero at first."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not bool(parameter.any()):
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def own(network: UNet, task: Task, *, guided: bool = True) -> Arm:
    """Euler's method on the guided velocity, or on the conditional one alone."""
    x, values = (t.to(task.device) for t in inputs(task.batch))
    known = torch.ones_like(values, dtype=torch.bool)
    call = torch.compile(network, dynamic=False) if task.compiled else network
    fields = together(call, (values, ~known), (values, known))
    field = compose(fields, [SCALE]) if guided else (lambda x, t: call(x, t, values, known))
    times = uniform_times(task.steps).to(task.device)
    return lambda: euler(field, x, times)


def peer(network: nn.Module, task: Task) -> Arm:
    """DDIM as its pipelines write it, conditioned on random tokens and on zeros."""
    x, _ = (t.to(task.device) for t in inputs(task.batch))
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randn(task.batch, PROPERTIES, TOKEN, generator=generator).to(task.device)
    both = torch.cat([torch.zeros_like(tokens), tokens])
    call = torch.compile(network, dynamic=False) if task.compiled else network
    scheduler = import_module("diffusers").DDIMScheduler()

    def sample() -> Tensor:
        scheduler.set_timesteps(task.steps, device=task.device)
        state = x * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            joint = scheduler.scale_model_input(torch.cat([state, state]), t)
            without, given = call(joint, t, encoder_hidden_states=both).sample.chunk(2)
            state = scheduler.step(without + SCALE * (given - without), t, state).prev_sample
        return state

    return sample


def inputs(batch: int) -> tuple[Tensor, Tensor]:
    """Noise (b, 4, 16, 16) and standardised properties (b, 5)."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, *SHAPE, generator=generator)
    return x, torch.randn(batch, PROPERTIES, generator=generator)


# Costs


def cost(evaluate: Callable[[], object]) -> float:
    """Floating-point operations of a call: those of convolutions, products and attention."""
    counter = FlopCounterMode(display=False)
    # Written out: the fused attention of the CPU is not among what is counted.
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        evaluate()
    return float(counter.get_total_flops())


def costs(network: nn.Module, evaluate: Callable[[], object]) -> dict[str, float]:
    """Parameters and the operations of one evaluation of one state."""
    return {
        "parameters": count_parameters(network),
        "mega_flops_per_evaluation": cost(evaluate) / 1e6,
    }


def own_cost(network: UNet, device: str) -> dict[str, float]:
    x, values = (t.to(device) for t in inputs(1))
    known = torch.ones_like(values, dtype=torch.bool)
    return costs(network, lambda: network(x, torch.full((1,), 0.5, device=device), values, known))


def peer_cost(network: nn.Module, device: str) -> dict[str, float]:
    x, _ = (t.to(device) for t in inputs(1))
    tokens = torch.zeros(1, PROPERTIES, TOKEN, device=device)
    return costs(network, lambda: network(x, 500, encoder_hidden_states=tokens))


# The race


def precision(name: str, device: str) -> AbstractContextManager[Any]:
    """Autocast to bf16, entered once for a whole sampling; nothing for float32."""
    if name == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def seconds(arm: Arm, form: str, device: str) -> tuple[float, float]:
    """Wall and CPU seconds of one call. Raises FloatingPointError for samples that diverge."""
    begun, busy = time.perf_counter(), time.process_time()
    with torch.inference_mode(), precision(form, device):
        finite = bool(torch.isfinite(arm()).all())  # waits for a GPU, too
    found = time.perf_counter() - begun, time.process_time() - busy
    if not finite:
        raise FloatingPointError("an arm's samples are not finite")
    return found


def race(
    arms: Mapping[str, Arm], repeats: int, batch: int, form: str, device: str
) -> dict[str, dict[str, float]]:
    """Per arm: samples/s at its least and median wall time, CPU seconds, and ratios.

    ``times_faster_than_X``: median over the rounds of X's seconds over the arm's.
    """
    wall: dict[str, list[float]] = {name: [] for name in arms}
    cpu: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        seconds(arm, form, device)  # warm
    for turn in range(repeats):
        for name in list(arms)[:: -1 if turn % 2 else 1]:
            for kept, found in zip((wall, cpu), seconds(arms[name], form, device), strict=True):
                kept[name].append(found)
    result: dict[str, dict[str, float]] = {}
    for name in arms:
        result[name] = {
            "samples_per_s": batch / float(np.median(wall[name])),
            "samples_per_s_best": batch / min(wall[name]),
            "wall_s": float(np.median(wall[name])),
            "cpu_s": float(np.median(cpu[name])),
        }
        for other in arms:
            if other.startswith("diffusers") and other != name:
                for clock, taken in (("", wall), (", CPU seconds", cpu)):
                    ratio = float(np.median(np.divide(taken[other], taken[name])))
                    result[name][f"times_faster_than_{other}{clock}"] = ratio
    return result


def sampling(task: Task, repeats: int, heads: Sequence[int]) -> dict[str, Any]:
    """The networks' costs, and the race in both precisions; ``heads``: of the peers that run."""
    network = own_network(task.device)
    arms = {"own": own(network, task)}
    result: dict[str, Any] = {"costs": {"own": own_cost(network, task.device)}}
    for number in heads:
        name = "diffusers" if number == 8 else f"diffusers, {number} heads"
        other = peer_network(number, task.device)
        arms[name] = peer(other, task)
        result["costs"][name] = peer_cost(other, task.device)
    for steps in STUDENT_STEPS:
        few = Task(task.batch, steps, task.device, task.compiled)
        arms[f"own, {steps} step{'s' * (steps > 1)}"] = own(network, few, guided=False)
    for form in ("float32", "bf16"):
        result[form] = race(arms, repeats, task.batch, form, task.device)
        for name, row in result[form].items():
            print(form, name, {k: round(v, 3) for k, v in row.items()}, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peak", type=float, help="the GPU's dense bf16 TFLOP/s, if not known")
    parser.add_argument("--quick", action="store_true", help="8 samples, 3 steps, no file")
    parser.add_argument("--out", default="generators")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    heads: Sequence[int] = (8, 2)
    try:
        import_module("diffusers")
    except ImportError:
        print("diffusers is not installed and left out: pip install 'spinodal[peers]'")
        heads = ()
    task = Task(8, 3, given.device) if given.quick else Task(device=given.device)
    result: dict[str, Any] = {
        "device": given.device,
        "threads": given.threads,
        "batch": task.batch,
        "steps": task.steps,
        "guidance": SCALE,
        "equal_accuracy": EQUAL_ACCURACY,
        "sampling": sampling(task, 3 if given.quick else given.repeats, heads),
    }
    if given.device != "cpu":
        compiled = Task(task.batch, task.steps, given.device, compiled=True)
        result["sampling_compiled"] = sampling(compiled, given.repeats, heads)
        result["gpu"] = gpu_figures(given.device, peak=given.peak)
    if not given.quick:
        print(write(given.out, result, ("diffusers",) if heads else ()))


if __name__ == "__main__":
    main()
