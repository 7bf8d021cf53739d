"""``python -m benchmarks gpu`` on a CPU, at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import refineclip.distill
import refineclip.encoders  # noqa: F401  (registers what the configs name)
from benchmarks import gpu, report
from refineclip.datasets.image_folder import build_region_sampler


@pytest.fixture
def toy_config() -> Config:
    return Config.fromfile(gpu.CONFIGS / gpu.TOY)


def flops(config: Config, *options: str, images: int = 2) -> int:
    args = gpu.parse_args(['--device', 'cpu', '--dtype', 'float32', *options])
    args.batch_size = images
    model = gpu.build(config, args)
    sampler = build_region_sampler(config.train_dataloader.dataset.region_sampler)
    autocast = torch.autocast('cpu', torch.bfloat16, enabled=False)
    return gpu.count_flops(model, gpu.raw_batch(sampler, args, 0), autocast)


def test_flops_grow_with_images_and_not_with_recomputation(toy_config: Config) -> None:
    two = flops(toy_config)
    assert flops(toy_config, '--with-cp') == two
    # The sampler draws the same number of regions for every image.
    assert flops(toy_config, images=4) == 2 * two


def test_flops_of_the_student_count_attention(toy_config: Config) -> None:
    """4 blocks of width 32 with heads of 16 on 4 x 4 + 1 tokens, worked by hand."""
    tokens, width = 17, 32
    linear = 2 * tokens * width * width * (4 + 2 * 4)  # qkv and output; MLP of ratio 4
    attention = 2 * 2 * tokens * tokens * width
    args = gpu.parse_args(['--device', 'cpu', '--dtype', 'float32'])
    student = gpu.build(toy_config, args).student
    counter = gpu.FlopCounterMode(display=False)
    tokens_in, grid = student.visual.embed(torch.rand(1, 3, 64, 64))
    with counter, gpu.sdpa_kernel(gpu.SDPBackend.MATH):
        student.visual.run(tokens_in, grid, 0, 1)
    assert counter.get_total_flops() == linear + attention


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ['--device', 'cpu', '--quick', '--out', str(tmp_path), '--peak-tflops', '1']
    assert gpu.main(arguments) == 0
    row = report.load(tmp_path)['gpu-toy']
    assert row['figures'].keys() == {'images_per_second', 'loader_cores', 'mfu'}
    assert len(row['seconds']) == len(row['regions']) == len(row['flops']) == 2
    assert row['device'] == 'cpu'
    assert row['losses'].keys() >= {'loss', 'loss_rla', 'loss_scd'}
    assert 'images_per_second' in capsys.readouterr().out


def test_every_case_is_a_config() -> None:
    assert all((gpu.CONFIGS / path).is_file() for path in gpu.CASES.values())
