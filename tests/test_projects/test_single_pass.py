"""Single pass: windows by hand, the regression, sizes, and what a step moves."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS

import projects.single_pass.single_pass  # noqa: F401  (registers SinglePass)
from projects.single_pass.single_pass import sliding_window_map, window_starts
from refineclip.distill.losses import shows_picture
from refineclip.encoders.weights.checkpoint_file import read_content
from tests.test_distill.toys import PATCH, PREPROCESSOR, SIZE, STUDENT, raw_batch, region_batch


def build(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    config = dict(
        type='SinglePass',
        student=STUDENT,
        window_size=2 * PATCH,
        stride=PATCH,
        data_preprocessor=PREPROCESSOR,
    )
    return MODELS.build({**config, **kwargs}).train()


def mean_colour(images: torch.Tensor) -> torch.Tensor:
    """A tower without context: the mean of each patch of 4 px, and how large the image is."""
    colours = F.avg_pool2d(images, 4)
    return torch.cat([colours, torch.full_like(colours[:, :1], images.shape[-1])], dim=1)


def test_windows_reach_the_end():
    assert window_starts(10, 4, 3) == [0, 3, 6]
    assert window_starts(10, 4, 4) == [0, 4, 6]
    assert window_starts(4, 4, 3) == [0]
    with pytest.raises(ValueError, match='at most the image, 4 px, got 5 px'):
        window_starts(4, 5, 1)
    with pytest.raises(ValueError, match='stride: expected pixels >= 1, got 0'):
        window_starts(4, 4, 0)


def test_a_tower_without_context_says_the_same_in_every_window():
    images = torch.randn(2, 3, 16, 24)
    seen = sliding_window_map(mean_colour, images, window=8, stride=4, patch_size=4, max_windows=5)
    torch.testing.assert_close(seen[:, :3], F.avg_pool2d(images, 4))
    assert seen[:, 3].unique().tolist() == [8.0]


def test_average_of_overlapping_windows_by_hand():
    """Two windows of two patches over three: the middle patch is the mean of both."""
    images = torch.zeros(1, 3, 2, 3)
    calls = iter([torch.tensor([[[[1.0, 2.0]] * 2]]), torch.tensor([[[[10.0, 20.0]] * 2]])])

    def dense(windows: torch.Tensor) -> torch.Tensor:
        assert windows.shape == (1, 3, 2, 2)
        return next(calls)

    seen = sliding_window_map(dense, images, window=2, stride=1, patch_size=1, max_windows=1)
    assert seen[0, 0].tolist() == [[1.0, 6.0, 20.0]] * 2


def test_a_stride_of_half_a_patch_comes_back_to_the_patches():
    seen = sliding_window_map(
        lambda x: torch.ones(len(x), 5, 2, 2), torch.zeros(1, 3, 12, 12), 8, 2, patch_size=4
    )
    torch.testing.assert_close(seen, torch.ones(1, 5, 3, 3))


def test_one_window_is_the_plain_map():
    model = build(window_size=SIZE)
    images = region_batch(model).images
    seen = sliding_window_map(model.teacher.dense, images, SIZE, PATCH, PATCH)
    torch.testing.assert_close(seen, model.teacher.dense(images))
    losses = model(region_batch(model), mode='loss')
    assert losses['loss_regression'].item() == pytest.approx(0, abs=1e-6)
    assert losses['cosine_to_windows'].item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('regression', ['mse', 'cosine'])
def test_loss_by_hand(regression):
    model = build(regression=regression, loss_weight=0.5)
    batch = region_batch(model)
    losses = model(batch, mode='loss')
    target = sliding_window_map(model.teacher.dense, batch.images, 2 * PATCH, PATCH, PATCH)
    student = model.student.dense(batch.images)
    valid = shows_picture(batch.pictures, (4, 4))
    per_image = []
    for index in range(len(batch)):
        own, other = (x[index].flatten(1).T[valid[index]] for x in (student, target))
        cosine = 1 - F.cosine_similarity(own, other, dim=1).mean()
        per_image.append((own - other).square().mean() if regression == 'mse' else cosine)
    expected = 0.5 * torch.stack(per_image).mean()
    torch.testing.assert_close(losses['loss_regression'], expected)


@pytest.mark.parametrize('trainable', [1, None])
def test_a_step_moves_the_last_blocks_and_no_teacher(trainable):
    model = build(student={**STUDENT, 'trainable_blocks': trainable})
    before = copy.deepcopy(model.state_dict())
    model.train_step(raw_batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0)))
    changed = {k for k, value in model.state_dict().items() if not torch.equal(value, before[k])}
    assert all(name.startswith('student.visual.model.transformer.resblocks.') for name in changed)
    assert {name.split('.')[5] for name in changed} == ({'2'} if trainable else {'0', '1', '2'})


def test_the_student_is_trained_at_a_size_drawn_per_step():
    model = build(sizes=(2 * PATCH, 3 * PATCH))
    batch = region_batch(model)
    torch.manual_seed(0)
    drawn = {model._draw_size(batch) for _ in range(20)}
    assert drawn == {(2 * PATCH, 2 * PATCH), (3 * PATCH, 3 * PATCH)}
    # The same in each process and after a resume: seed, iteration and rank decide.
    one, other = (model(batch, mode='loss')['loss_regression'] for _ in range(2))
    torch.testing.assert_close(one, other)
    assert model(batch, mode='tensor').shape[-2:] == (4, 4)  # measured at its own size


def test_the_teacher_may_see_the_image_larger():
    model = build(sizes=(2 * PATCH,), teacher_scale=2.0)
    batch = region_batch(model)
    seen = model._windows(batch, (2 * PATCH, 2 * PATCH))
    whole = sliding_window_map(model.teacher.dense, batch.images, 2 * PATCH, PATCH, PATCH)
    torch.testing.assert_close(seen, F.avg_pool2d(whole, 2))


def test_cached_maps_are_those_that_are_computed(tmp_path: Path):
    plain, cached = build(), build(cache_dir=str(tmp_path))
    expected = plain(region_batch(plain), mode='loss')['loss_regression']
    for _ in range(2):  # computed, and read
        found = cached(region_batch(cached), mode='loss')['loss_regression']
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-5)
    assert list(tmp_path.rglob('*'))


def test_a_checkpoint_holds_tensors_only(tmp_path: Path):
    model = build()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'iter_1.pth')
    state = read_content(tmp_path / 'iter_1.pth')['state_dict']
    assert state.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(regression='l1'), r"regression: expected one of .*, got 'l1'"),
        (dict(sizes=(30,)), r'sizes: expected multiples of the patch 8, got \(30, 30\)'),
        (dict(sizes=(16,), teacher_scale=1.2), 'sizes x teacher_scale: expected multiples'),
        (dict(window_size=12), 'window_size: expected a multiple of the patch 8, got 12'),
        (dict(window_size=64), 'at most the image, 32 px, got 64 px'),
        (dict(sizes=(16, 24), cache_dir='somewhere'), 'cache_dir: expected one size'),
        (dict(student={**STUDENT, 'refiner': dict(num_blocks=1)}), 'without a Refiner'),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_configs_keep_the_published_regression(repo_root: Path):
    paths = sorted((repo_root / 'projects/single_pass/configs').glob('*.py'))
    assert len(paths) == 5
    for path in paths:
        model = Config.fromfile(path).model
        assert model.get('regression', 'mse') == 'mse'
        assert model.student.trainable_blocks == (None if '-all' in path.stem else 2)
