from __future__ import annotations

from itertools import islice

import pytest
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner.runner import _SlicedDataset

from refineclip.datasets import EpochSampler, InfiniteEpochSampler


class Numbers:
    epoch_stride = 10

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, int]:
        return divmod(index, 10)


@pytest.mark.parametrize('shuffle', [False, True])
def test_order_is_that_of_default_sampler(shuffle: bool) -> None:
    sampler = EpochSampler(Numbers(), shuffle=shuffle, seed=3)
    default = DefaultSampler(Numbers(), shuffle=shuffle, seed=3)
    for epoch in (0, 1, 4):
        sampler.set_epoch(epoch)
        default.set_epoch(epoch)
        assert list(sampler) == [index + 10 * epoch for index in default]
    assert len(sampler) == 10


def set_rank(sampler: EpochSampler, rank: int, world: int) -> EpochSampler:
    sampler.rank, sampler.world_size = rank, world
    return sampler


def test_built_by_name_and_sliced_dataset() -> None:
    sliced = _SlicedDataset(Numbers(), 4)  # what `num_batch_per_epoch` makes
    sampler = DATA_SAMPLERS.build(
        {'type': 'EpochSampler', 'dataset': sliced, 'seed': 0, 'shuffle': False}
    )
    sampler.set_epoch(2)
    assert [sliced[index] for index in sampler] == [(2, 0), (2, 1), (2, 2), (2, 3)]


@pytest.mark.parametrize('kind', [EpochSampler, InfiniteEpochSampler])
def test_refuses_datasets_that_cannot_decode(kind: type) -> None:
    with pytest.raises(TypeError, match=r'epoch_stride.*got list'):
        kind([1, 2, 3], seed=0)


def test_infinite_stream_is_the_epochs_in_turn() -> None:
    finite = EpochSampler(Numbers(), seed=3)
    expected = []
    for epoch in range(3):
        finite.set_epoch(epoch)
        expected += list(finite)
    assert list(islice(InfiniteEpochSampler(Numbers(), seed=3), 30)) == expected


@pytest.mark.parametrize('start', [0, 3, 10, 27])
@pytest.mark.parametrize(('rank', 'world'), [(0, 1), (0, 3), (2, 3)])
def test_skip_resumes_exactly(start: int, rank: int, world: int) -> None:
    whole = set_rank(InfiniteEpochSampler(Numbers(), seed=3), rank, world)
    resumed = set_rank(InfiniteEpochSampler(Numbers(), seed=3), rank, world)
    resumed.skip(start)
    assert list(islice(resumed, 20)) == list(islice(whole, start + 20))[start:]
    with pytest.raises(ValueError, match='num_samples'):
        resumed.skip(-1)


def test_two_ranks_share_the_batches_of_one() -> None:
    one = list(islice(InfiniteEpochSampler(Numbers(), seed=3), 24))
    two = [
        list(islice(set_rank(InfiniteEpochSampler(Numbers(), seed=3), rank, 2), 12))
        for rank in range(2)
    ]
    for step in range(3):  # batch 4 per rank against batch 8
        batches = two[0][4 * step : 4 * step + 4] + two[1][4 * step : 4 * step + 4]
        assert sorted(batches) == sorted(one[8 * step : 8 * step + 8])
