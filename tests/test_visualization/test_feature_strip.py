from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from refineclip.visualization import FeatureStripHook, feature_strip_figure, find_images
from tests.test_distill.toy_runs import run_config, train, write_images
from tests.test_distill.toys import PREPROCESSOR, STUDENT
from tests.test_visualization.toys import noise, picture

REFINER_TRAINING = dict(
    type='RefinerTraining',
    encoder=dict(STUDENT, refiner=dict(num_blocks=1)),
    loss=dict(type='RefineLoss'),
    data_preprocessor=PREPROCESSOR,
)


def test_drift_is_seen_on_one_basis() -> None:
    start = noise(0)
    drifted = start + 2 * torch.eye(5)[0].view(5, 1, 1)
    figure = feature_strip_figure([picture()], {'start': [start], 'iteration 9': [drifted]})
    images = [axes.images[0].get_array() for axes in figure.axes[1:]]
    assert abs(images[0] - images[1]).mean() > 0.1


@pytest.mark.parametrize('model', [None, REFINER_TRAINING], ids=['stage 2', 'stage 1'])
def test_hook_draws_and_leaves_training_alone(model: Any, tmp_path: Path) -> None:
    images = write_images(tmp_path / 'images', 4)
    hook = dict(type='FeatureStripHook', images=str(images), interval=2, num_images=1)
    with_hook = run_config(images, tmp_path / 'with', model, iters=3, custom_hooks=[hook])
    without = run_config(images, tmp_path / 'without', model, iters=3)
    state, expected = train(with_hook), train(without)
    folder = tmp_path / 'with' / 'feature_strip'
    assert sorted(path.name for path in folder.iterdir()) == [
        'iter_2.png',
        'iter_3.png',
        'strip.png',
    ]
    for name, value in expected.items():
        assert torch.equal(state[name], value), name


def test_maps_change_while_the_refiner_learns(tmp_path: Path) -> None:
    images = write_images(tmp_path / 'images', 4)
    config = run_config(images, tmp_path / 'run', REFINER_TRAINING, iters=2)
    hook = FeatureStripHook(images, interval=1, num_images=1)
    config.custom_hooks = []
    config.experiment_name = 'strip'
    runner = Runner.from_cfg(config)
    runner.register_hook(hook)
    runner.train()
    assert sorted(hook.moments) == [0, 1, 2]
    assert not torch.equal(hook.moments[0][0], hook.moments[2][0])


def test_find_images(tmp_path: Path) -> None:
    folder = write_images(tmp_path / 'images', 3)
    assert [path.name for path in find_images(folder)] == ['00.png', '01.png', '02.png']
    assert find_images([folder / '02.png', folder])[0].name == '02.png'
    with pytest.raises(FileNotFoundError, match='expected an image or a folder'):
        find_images(tmp_path / 'nothing')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='Expected images'):
        find_images(tmp_path / 'empty')
    with pytest.raises(ValueError, match='expected images or folders of images, got none'):
        find_images([])


def test_wrong_settings_and_models(tmp_path: Path) -> None:
    images = str(write_images(tmp_path / 'images', 1))
    for wrong in (dict(interval=0), dict(num_images=0), dict(max_columns=1)):
        with pytest.raises(ValueError, match='expected'):
            HOOKS.build(dict(type='FeatureStripHook', images=images, **wrong))
    hook = FeatureStripHook(images)
    runner = type('Runner', (), dict(model=torch.nn.Linear(1, 1), iter=0))()
    with pytest.raises(TypeError, match='RefinerTraining or RegionAlignment, got Linear'):
        hook.before_train(runner)
