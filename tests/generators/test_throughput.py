"""The throughput benchmark at tiny sizes: what it counts, and that every arm runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks import generators, generators_gpu
from benchmarks.generators_gpu import Case
from generators.registry import PRESETS
from loop.errors import InvalidInputError


def test_operations_are_those_of_the_formulas() -> None:
    """Two for every multiplication with addition; attention has two products."""
    conv = nn.Conv2d(3, 5, 3, padding=1)
    assert generators.cost(lambda: conv(torch.zeros(2, 3, 4, 6))) == 2 * 2 * 24 * 5 * 3 * 9
    q = torch.zeros(2, 3, 7, 4)
    attention = generators.cost(lambda: functional.scaled_dot_product_attention(q, q, q))
    assert attention == 2 * 2 * (2 * 3 * 7 * 7 * 4)


def test_the_network_is_of_the_size_that_is_compared() -> None:
    """diffusers' has 6,551,236 parameters and 1,242.9 MFLOP an evaluation: within 2 %, 10 %."""
    found = generators.own_cost(generators.own_network(), "cpu")
    assert found["parameters"] == pytest.approx(6_551_236, rel=0.02)
    assert found["mega_flops_per_evaluation"] == pytest.approx(1242.9, rel=0.1)


def test_the_race_runs_every_arm_in_both_precisions() -> None:
    task = generators.Task(batch=1, steps=1)
    network = generators.own_network()
    arms = {"own": generators.own(network, task), "diffusers": generators.own(network, task)}
    for form in ("float32", "bf16"):
        found = generators.race(arms, 1, task.batch, form, task.device)
        assert found.keys() == arms.keys()
        own, other = found.values()
        assert own["samples_per_s"] == pytest.approx(1 / own["wall_s"])
        ratio = other["wall_s"] / own["wall_s"]
        assert own["times_faster_than_diffusers"] == pytest.approx(ratio)
        assert "times_faster_than_diffusers" not in other


def test_without_the_peer_own_arms_and_students_run() -> None:
    found = generators.sampling(generators.Task(batch=1, steps=1), 1, heads=())
    assert set(found["float32"]) == {"own", "own, 1 step", "own, 2 steps", "own, 4 steps"}
    assert set(found["costs"]) == {"own"}


def test_guidance_changes_what_is_sampled() -> None:
    network, task = generators.own_network(), generators.Task(batch=1, steps=2)
    with torch.inference_mode():
        guided, plain = (generators.own(network, task, guided=g)() for g in (True, False))
    assert float((guided - plain).abs().max()) > 1e-3


def test_samples_that_diverge_are_reported() -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        generators.seconds(lambda: torch.tensor([torch.inf]), "float32", "cpu")


@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_training_and_sampling_figures(kind: str) -> None:
    """What a GPU is asked for, on the CPU."""
    settings = replace(PRESETS["tiny"], sample_steps=2)
    case = Case(kind, 32, (4, 4, 4), batch=2, decoded=True)
    found = generators_gpu.gpu_figures(
        "cpu", peak=1.0, settings=settings, chosen=[case], compilers=(None,), warm=1, timed=2
    )
    (row,) = found["rows"]
    trained = row["training"]
    assert trained["share_of_peak"] == trained["tflops"]
    assert trained["tflops"] == pytest.approx(
        trained["images_per_s"] * trained["giga_flops_per_image"] / 1e3
    )
    assert row["sampling"]["images_per_s"] > 0


def test_pixels_need_no_decoder() -> None:
    settings = replace(PRESETS["tiny"], sample_steps=1)
    case = Case("unet", 16, (1, 16, 16), batch=2, decoded=False)
    found = generators_gpu.gpu_figures(
        "cpu", peak=1.0, settings=settings, chosen=[case], compilers=(None,), warm=1, timed=1
    )
    assert found["rows"][0]["state"] == (1, 16, 16)


def test_the_cases_of_a_gpu() -> None:
    found = generators_gpu.cases(PRESETS["gpu"])
    assert {case.side for case in found} == {64, 256}
    assert {case.kind for case in found} == {"unet", "dit"}


def test_peaks_of_cards() -> None:
    assert generators_gpu.peak_of("NVIDIA H200") == 989.4
    assert generators_gpu.peak_of("NVIDIA H100 PCIe") == 756.0
    assert generators_gpu.peak_of("NVIDIA A100-SXM4-80GB") == 312.0
    with pytest.raises(InvalidInputError, match="pass --peak"):
        generators_gpu.peak_of("Voodoo 2")
