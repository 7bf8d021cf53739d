"""Two ways of doing the same work: same numbers first, then time and peak memory side by side."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from .forks import in_fork, peak_growth

Numbers = dict[str, Tensor]
Side = Callable[[], Numbers]


class DifferentNumbersError(AssertionError):
    """Both sides were expected to compute the same, and do not."""


class Skipped(Exception):
    """A benchmark that cannot run here; the message says what is missing."""


@dataclass(frozen=True)
class Goal:
    """What a figure should reach.

    Attributes:
        figure: ``'speedup'`` (time of A / time of B), ``'memory'`` (peak of B / peak of A), or the
            name of one of the comparison's facts.
        at_least: Lower limit, or None.
        at_most: Upper limit, or None.
    """

    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, value: float) -> bool:
        """Whether a value is within the limits."""
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        limits = [f'>= {self.at_least:g}'] if self.at_least is not None else []
        limits += [f'<= {self.at_most:g}'] if self.at_most is not None else []
        return f'{self.figure} {" and ".join(limits)}'


def relative_difference(a: Tensor, b: Tensor) -> float:
    """Norm of the difference over the norm of A."""
    a, b = a.double(), b.double()
    return float((a - b).norm() / a.norm().clamp(min=1e-30))


@dataclass(frozen=True)
class Comparison:
    """One row of the table.

    Attributes:
        published: Side A; returns the numbers that it computed.
        ours: Side B; returns the same numbers, by the same names.
        setting: Model, sizes and counts, in words.
        bound: What keeps the figure from being better, in words.
        tolerances: Largest allowed difference of each number.
        difference: How a number of both sides is compared.
        goals: What is hoped for; nothing fails when it is missed.
        repeats: Timed calls of each side, in one process, in the order A B A B. 0 takes the times
            of the one call of each side whose memory is measured, in a child of its own.
        calls: Calls per timed repeat, for work of milliseconds; the time is that of one call.
        memory: Measure peak memory, each side in a child of its own.
        facts: Further figures of the setting, known without a clock (bytes, images).
    """

    published: Side
    ours: Side
    setting: str
    bound: str
    tolerances: Mapping[str, float]
    difference: Callable[[Tensor, Tensor], float] = relative_difference
    goals: tuple[Goal, ...] = ()
    repeats: int = 5
    calls: int = 1
    memory: bool = True
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Result:
    """What was measured; seconds and MiB, A first.

    ``cpu_seconds`` is the processor's share of ``seconds``: on one thread of a quiet machine they
    agree, and where they do not, something else was running.
    """

    setting: str
    bound: str
    differences: dict[str, float]
    tolerances: dict[str, float]
    seconds: tuple[list[float], list[float]]
    cpu_seconds: tuple[list[float], list[float]]
    peak_mib: tuple[float, float] | None
    facts: dict[str, float]
    goals: list[Goal]

    @property
    def speedups(self) -> list[float]:
        """Time of A over time of B, per pair."""
        return [a / b for a, b in zip(*self.seconds, strict=True)]

    def figures(self) -> dict[str, float]:
        """The figures that goals name."""
        a, b = (statistics.median(side) for side in self.seconds)
        cpu_a, cpu_b = (statistics.median(side) for side in self.cpu_seconds)
        figures = {'speedup': a / b, 'cpu_speedup': cpu_a / cpu_b, **self.facts}
        if self.peak_mib is not None:
            figures['memory'] = self.peak_mib[1] / self.peak_mib[0]
        return figures

    def as_json(self) -> dict[str, Any]:
        """Everything, with the figures and which goals they reach."""
        figures = self.figures()
        goals = [
            dict(asdict(goal), text=str(goal), reached=goal.reached(figures[goal.figure]))
            for goal in self.goals
        ]
        spread = [min(self.speedups), max(self.speedups)]
        return dict(asdict(self), goals=goals, figures=figures, speedup_range=spread)


def toy(comparison: Comparison) -> Comparison:
    """The same comparison with few repeats and without the claims of the full size."""
    return replace(comparison, setting='toy sizes', goals=(), repeats=2, calls=1)


def compare(comparison: Comparison) -> Result:
    """Measure a comparison: memory in children first, then equality, then time.

    Raises:
        DifferentNumbersError: A number differs by more than its tolerance.
    """
    children = [None, None]
    if comparison.memory or comparison.repeats == 0:
        # Before this process has run anything: a child inherits its heap and its threads.
        # Giving memory back costs time, so not where the times are taken as well.
        live_only = comparison.repeats > 0
        sides = comparison.published, comparison.ours
        children = [in_fork(_once, side, live_only) for side in sides]
    if comparison.repeats:
        numbers = [comparison.published(), comparison.ours()]  # also the warm-up
    else:
        numbers = [{k: torch.as_tensor(v) for k, v in child[3].items()} for child in children]
    differences = _differences(comparison, *numbers)
    if comparison.repeats:
        clocks = _interleaved(comparison)
    else:
        clocks = [tuple([child[clock]] for child in children) for clock in (1, 2)]
    return Result(
        setting=comparison.setting,
        bound=comparison.bound,
        differences=differences,
        tolerances=dict(comparison.tolerances),
        seconds=clocks[0],
        cpu_seconds=clocks[1],
        peak_mib=tuple(child[0] for child in children) if children[0] else None,
        facts=dict(comparison.facts),
        goals=list(comparison.goals),
    )


def touch_libraries() -> None:
    """Run a little of everything: the code of the kernels is read, their buffers are made."""
    maps = torch.randn(1, 64, 32, 32, requires_grad=True)
    tokens = F.conv2d(maps, torch.randn(256, 64, 1, 1)).flatten(2).transpose(1, 2)
    tokens = F.gelu(F.layer_norm(tokens @ torch.randn(256, 256), (256,)))
    mixed = F.scaled_dot_product_attention(tokens, tokens, tokens)
    pooled = roi_align(maps, torch.tensor([[0.0, 0, 0, 32, 32]]), 8, aligned=True)
    (mixed.softmax(-1).square().mean() + F.normalize(pooled, dim=1).mean()).backward()
    # The buffers of the matrix library grow with the largest product; one more is enough for all.
    large = torch.randn(2, 1024, 1024)
    large @ large.transpose(1, 2)


def _once(side: Side, live_only: bool) -> tuple[float, float, float, dict[str, Any]]:
    """Peak growth in MiB, seconds, CPU seconds, and numbers (as arrays) of one call."""
    kept: list[Any] = []

    def call() -> None:
        start, cpu_start = time.perf_counter(), time.process_time()
        numbers = side()
        kept.extend([time.perf_counter() - start, time.process_time() - cpu_start, numbers])

    touch_libraries()
    growth = peak_growth(call, live_only)
    return growth, *kept[:2], {name: value.numpy() for name, value in kept[2].items()}


def _interleaved(comparison: Comparison) -> list[tuple[list[float], list[float]]]:
    """Seconds and CPU seconds of one call, of both sides, per repeat."""
    seconds: tuple[list[float], list[float]] = ([], [])
    cpu_seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(comparison.repeats):
        for index, side in enumerate((comparison.published, comparison.ours)):
            gc.collect()
            start, cpu_start = time.perf_counter(), time.process_time()
            for _ in range(comparison.calls):
                side()
            cpu_seconds[index].append((time.process_time() - cpu_start) / comparison.calls)
            seconds[index].append((time.perf_counter() - start) / comparison.calls)
    return [seconds, cpu_seconds]


def _differences(comparison: Comparison, a: Numbers, b: Numbers) -> dict[str, float]:
    if not a.keys() == b.keys() == comparison.tolerances.keys():
        raise DifferentNumbersError(
            f'expected numbers {sorted(comparison.tolerances)} of both sides, got {sorted(a)} and '
            f'{sorted(b)}'
        )
    found = {name: comparison.difference(a[name], b[name]) for name in a}
    # Written so that a NaN fails as well.
    wrong = {
        name: value for name, value in found.items() if not value <= comparison.tolerances[name]
    }
    if wrong:
        raise DifferentNumbersError(
            f'expected differences within {dict(comparison.tolerances)}, got {wrong}'
        )
    return found
