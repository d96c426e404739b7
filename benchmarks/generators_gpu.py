"""Training and sampling by the joint networks at the sizes of a GPU; called by ``generators``.

Images of 64² and 256² as latents of the preset's autoencoder and as pixels, with two phase
compositions of five elements, in bf16 with channels last, compiled and not:

- training: images/s of ``training.loop.train`` with its clipping and averages, after the steps in
  which kernels are compiled and chosen; TFLOP/s are those of convolutions, products and attention,
  forward and backward, without what is computed twice, as a share of the card's dense bf16 peak.
- sampling: images/s in the preset's number of Euler steps with guidance in one joint batch, and
  with the autoencoder's decoder behind it where there is one.

Both with the peak of the memory that torch has taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from generators.dynamics.flow import interpolate, target_velocity
from generators.dynamics.guidance import compose, together
from generators.dynamics.samplers import euler, uniform_times
from generators.networks.autoencoder import Autoencoder
from generators.networks.dit import PATCH
from generators.networks.joint import PIXEL_PATCH, JointNetwork, joint_network
from generators.networks.mlp import count_parameters
from generators.registry import PRESETS
from generators.training.flow_matching import FlowSettings
from generators.training.loop import Schedule, train
from generators.training.precision import Computation
from loop.errors import InvalidInputError

PROPERTIES = 5
VECTORS = (5, 5)  # two phase compositions of five elements
SCALE = 3.0

# Dense bf16 TFLOP/s by a part of the card's name, the more special first; makers' data sheets.
PEAKS = {
    "H200 NVL": 835.0,
    "H200": 989.4,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.4,
    "A100": 312.0,
    "A10": 125.0,
    "B200": 2250.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}


@dataclass(frozen=True)
class Case:
    """Images of ``side`` pixels as what the network sees (c, h, w), in batches."""

    kind: str
    side: int
    shape: tuple[int, int, int]
    batch: int
    decoded: bool


def cases(settings: FlowSettings) -> list[Case]:
    """U-Net and transformer on latents, U-Net on pixels, at 64² and 256²."""
    found = []
    for side, latent_batch, pixel_batch in ((64, 512, 128), (256, 256, 16)):
        factor = Autoencoder.factor
        latent = (settings.vae.latent_channels, side // factor, side // factor)
        found += [Case(kind, side, latent, latent_batch, True) for kind in ("unet", "dit")]
        found.append(Case("unet", side, (1, side, side), pixel_batch, False))
    return found


def peak_of(card: str) -> float:
    """Dense bf16 TFLOP/s of a card by its name. Raises InvalidInputError for an unknown one."""
    for part, peak in PEAKS.items():
        if part in card:
            return peak
    raise InvalidInputError(
        f"no peak known of {card!r}; expected one of {', '.join(PEAKS)}: pass --peak TFLOP/s"
    )


def gpu_figures(
    device: str,
    *,
    peak: float | None = None,
    settings: FlowSettings | None = None,
    chosen: list[Case] | None = None,
    compilers: tuple[str | None, ...] = (None, "inductor"),
    warm: int = 15,
    timed: int = 40,
) -> dict[str, Any]:
    """Every case in every way of computing; ``peak`` in TFLOP/s, by default the card's."""
    settings = settings or PRESETS["gpu"]
    card = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    peak = peak or peak_of(card)
    rows = []
    for case in cases(settings) if chosen is None else chosen:
        for compiler in compilers:
            how = Computation("bf16", compiler=compiler, channels_last=True)
            row: dict[str, Any] = {
                "network": case.kind,
                "image": case.side,
                "state": case.shape,
                "batch": case.batch,
                "compiled": compiler is not None,
            }
            network = made(case, settings).to(device)
            row["parameters"] = count_parameters(network)
            row["training"] = training(network, case, how, device, warm, timed, peak)
            row["sampling"] = sampling(network, case, how, device, settings)
            print(row, flush=True)
            rows.append(row)
    return {"card": card, "peak_tflops": peak, "rows": rows}


def made(case: Case, settings: FlowSettings) -> JointNetwork:
    return joint_network(
        case.kind,
        latent_shape=case.shape,
        vector_sizes=VECTORS,
        properties=PROPERTIES,
        width=settings.width,
        depth=settings.depth,
        heads=settings.heads,
        channels=settings.channels if case.decoded else settings.channels // 2,
        patch=PATCH if case.decoded else PIXEL_PATCH,
    )


def training(
    network: JointNetwork,
    case: Case,
    how: Computation,
    device: str,
    warm: int,
    timed: int,
    peak: float,
) -> dict[str, float]:
    """Images/s of the training loop over ``timed`` steps after ``warm`` others."""
    generator = torch.Generator(device).manual_seed(0)
    flops = step_flops(network, device)
    reset(device)
    begun = 0.0

    def batches() -> Iterator[tuple[Tensor, ...]]:
        nonlocal begun
        for step in range(warm + timed):
            if step == warm:
                begun = now(device)
            yield batch_of(network, case.batch, generator)

    train(network, loss_of(network), batches(), Schedule(warm + timed, 1e-4), stage="", how=how)
    rate = case.batch * timed / (now(device) - begun)
    return {
        "images_per_s": rate,
        "tflops": rate * flops / 1e12,
        "share_of_peak": rate * flops / 1e12 / peak,
        "giga_flops_per_image": flops / 1e9,
        "peak_memory_gib": memory(device),
    }


def batch_of(network: JointNetwork, b: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Data, noise, times, properties and which of them are known."""
    device = generator.device
    data, noise = torch.randn(2, b, network.state_size, generator=generator, device=device).unbind()
    t = torch.rand(b, generator=generator, device=device)
    values = torch.randn(b, PROPERTIES, generator=generator, device=device)
    return data, noise, t, values, torch.ones_like(values, dtype=torch.bool)


def loss_of(network: JointNetwork) -> Callable[..., Tensor]:
    def loss(data: Tensor, noise: Tensor, t: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        found = network(interpolate(data, noise, t), t, values, mask)
        return (found - target_velocity(data, noise)).square().mean()

    return loss


def step_flops(network: JointNetwork, device: str) -> float:
    """Operations of a training step for one image, forward and backward."""
    batch = batch_of(network, 1, torch.Generator(device).manual_seed(0))
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        loss_of(network)(*batch).backward()
    network.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def sampling(
    network: JointNetwork, case: Case, how: Computation, device: str, settings: FlowSettings
) -> dict[str, float]:
    """Images/s of guided sampling, with and without the decoder."""
    network.eval()
    generator = torch.Generator(device).manual_seed(0)
    _, noise, _, values, known = batch_of(network, case.batch, generator)
    call = how.compiled(network)
    field = compose(together(call, (values, ~known), (values, known)), [SCALE])
    times = uniform_times(settings.sample_steps).to(device)
    decoder = None
    if case.decoded:
        channels, width = settings.vae.latent_channels, settings.vae.width
        decoder = Autoencoder(2, latent_channels=channels, width=width).to(device).eval()
        how.arrange(decoder)

    def states() -> Tensor:
        return euler(field, noise, times)

    def images() -> Tensor:
        found = states()[:, : network.latent_size].reshape(-1, *case.shape)
        return found if decoder is None else decoder.decode_labels(found)

    result = {}
    reset(device)
    with torch.inference_mode(), how.autocast(torch.device(device)):
        for name, run in {"states_per_s": states, "images_per_s": images}.items():
            run()
            taken = []
            for _ in range(3):
                begun = now(device)
                run()
                taken.append(now(device) - begun)
            result[name] = case.batch / min(taken)
    return {**result, "steps": settings.sample_steps, "peak_memory_gib": memory(device)}


# The device


def now(device: str) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def memory(device: str) -> float:
    """GiB taken at most since ``reset``; 0 on the CPU, where torch does not count."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.startswith("cuda") else 0.0
