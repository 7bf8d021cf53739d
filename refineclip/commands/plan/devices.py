"""Cards that a plan can be made for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A card, by its data sheet: TFLOP/s without sparsity, and memory in GB."""

    half_tflops: float
    float_tflops: float
    memory_gb: float


# NVIDIA's data sheets of the SXM cards: bf16/fp16 tensor cores, float32, memory.
DEVICES = {
    'a100': Device(312, 19.5, 80),
    'h100': Device(989, 67, 80),
    'h200': Device(989, 67, 141),
}
