from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader

from refineclip.datasets.training_data import TrainingDataHook, check_batches, check_length


def loader(number: int, size: int, sampler: type = DefaultSampler, drop: bool = True) -> DataLoader:
    data = list(range(number))
    return DataLoader(data, batch_sampler=BatchSampler(sampler(data), size, drop))


def test_fewer_images_than_a_batch_are_refused_with_both_numbers() -> None:
    message = r'one batch of 16 images .* got 3 images per process \(3 in all\)'
    with pytest.raises(ValueError, match=message):
        TrainingDataHook().before_train(SimpleNamespace(train_dataloader=loader(3, 16)))


@pytest.mark.parametrize(
    ('number', 'size', 'sampler', 'drop'),
    [
        (16, 16, DefaultSampler, True),
        (3, 16, DefaultSampler, False),
        (3, 16, InfiniteSampler, True),
    ],
)
def test_what_gives_a_batch_passes(number: int, size: int, sampler: type, drop: bool) -> None:
    batches = loader(number, size, sampler, drop)
    check_batches(batches)
    assert next(iter(batches)) is not None


@pytest.mark.parametrize(('epochs', 'iters'), [(0, 0), (1, 0), (1, -1), (-2, -8)])
def test_a_training_of_no_step_is_refused(epochs: int, iters: int) -> None:
    with pytest.raises(ValueError, match=f'max_epochs={epochs}, max_iters={iters}'):
        check_length(SimpleNamespace(max_epochs=epochs, max_iters=iters))
    check_length(SimpleNamespace(max_epochs=1, max_iters=1))
