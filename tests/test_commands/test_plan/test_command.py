"""The plan of a config, and a plan held against a real step."""

from __future__ import annotations

import json

import pytest

from refineclip.__main__ import main as dispatch
from refineclip.commands.plan import command as plan

TOY = 'configs/distill/toy/r-sc-rla_vit-toy_1xb2-4i_photos.py'


def run(repo_root, *options: str) -> int:
    return plan.main([str(repo_root / TOY), *options])


def test_time_and_memory_add_up(repo_root, tmp_path, capsys):
    file = tmp_path / 'plan.json'
    options = ('--gpus', '2', '--peak-tflops', '10', '--mfu', '0.5', '--images', '100')
    assert dispatch(['plan', str(repo_root / TOY), *options, '--json', str(file)]) == 0
    result = json.loads(file.read_text())
    flops = sum(result['flops_per_image'].values())
    assert result['images_per_second'] == pytest.approx(2 * 10e12 * 0.5 / flops)
    assert result['steps'] == 4  # of the schedule, with 2 x 2 images each
    assert result['epochs'] == 4 / 25
    assert result['seconds'] == pytest.approx(16 / result['images_per_second'])
    memory = result['memory_per_gpu']
    parts = ('weights', 'gradients', 'buckets', 'optimizer', 'activations')
    assert memory['total'] == sum(memory[part] for part in parts)
    assert memory['gradients'] == 4 * result['parameters']['trainable']
    assert memory['optimizer'] == 2 * memory['gradients']
    text = capsys.readouterr().out
    assert '4.00 (mean of 4000 draws of RandomCropRegions)' in text
    assert 'student backward' in text
    assert 'of 75 GiB: fits' in text


def test_several_processes_keep_buckets():
    from refineclip.distill.cost import Memory

    memory = Memory(800, 400, 800, 50, 20)
    assert plan.device_memory(memory, 4)['total'] == 800 + 400 + 400 + 800 + 50
    assert plan.device_memory(memory, 1)['buckets'] == 0


def test_schedules_of_epochs_need_a_number_of_images(tmp_path):
    from mmengine.config import Config

    here = tmp_path / 'photos'
    here.mkdir()
    (here / 'a.jpg').write_bytes(b'x')
    dataset = Config(dict(data_root=str(here)))
    assert plan.count_images(dataset, None) == (1, str(here))
    assert plan.count_images(dataset, 7) == (7, '--images')
    known = plan.count_images(Config(dict(data_root='data/coco/train2017/')), None)
    assert known[0] == 118_287
    assert plan.count_images(Config(dict(data_root='not/there')), None)[0] is None


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--mfu', '40'), 'expected a share in (0, 1], got 40'),
        (('--gpus', '0'), 'expected a value above 0'),
    ],
)
def test_bad_options_end_at_once(repo_root, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        run(repo_root, *options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_planned_is_said(repo_root, capsys):
    assert run(repo_root, '--cfg-options', 'model.type=FCOS') == 2
    assert 'expected crop_size or image_size' in capsys.readouterr().err


@pytest.mark.slow
def test_check_on_a_toy(repo_root, tmp_path):
    """Toy steps are mostly overhead, and a test is no place to measure: only the rule is held."""
    file = tmp_path / 'check.json'
    assert run(repo_root, '--check', '256', '512', '--json', str(file)) == 0
    first, second = json.loads(file.read_text())['rows']
    rate = first['flops'] / first['seconds']
    assert second['predicted_seconds'] == pytest.approx(second['flops'] / rate)
    assert second['seconds'] > 0
    assert second['predicted_bytes'] > 0
    assert second['measured_bytes'] > 0
