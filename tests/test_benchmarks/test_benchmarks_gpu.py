"""``python -m benchmarks gpu`` on a CPU, at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import refineclip.distill
import refineclip.encoders  # noqa: F401  (registers what the configs name)
from benchmarks import gpu, report
from refineclip.distill.cost import Regions, build_on_meta, step_flops


def test_flops_follow_images_and_regions() -> None:
    config = Config.fromfile(gpu.CONFIGS / gpu.TOY)
    one, two, more = (
        gpu.analytic_flops(config, [count], size)[0] for count, size in [(8, 1), (16, 2), (16, 1)]
    )
    assert two == 2 * one
    # 8 more crops and 8 more regions of SCD.
    parts = step_flops(build_on_meta(config.model.to_dict()), Regions(8, 8, 'given'))
    assert more - one == pytest.approx(parts['crops'] + parts['SCD'])


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


def test_the_gpu_that_is_named_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', {'cuda:1': 3 * 2**30}.__getitem__)
    assert gpu._peak_gib('cuda:1') == 3
