from __future__ import annotations

import pytest
from mmengine.registry import DATA_SAMPLERS
from PIL import Image
from torch.utils.data import SequentialSampler

from refineclip.datasets import EpochSampler, RegionImageFolder, SimilarShapeBatchSampler
from refineclip.datasets.image_io import BadImageError, read_image, read_image_size

RATIOS = [0.5, 1.5, 2.5, 0.6, 1.4, 0.7, 1.6]


class Shapes:
    epoch_stride = len(RATIOS)

    def __len__(self) -> int:
        return len(RATIOS)

    def aspect_ratio(self, index: int) -> float:
        return RATIOS[index % len(RATIOS)]


@pytest.mark.parametrize(
    ('boundaries', 'full', 'rest'),
    [
        ((1.0,), [[1, 2], [0, 3], [4, 6]], [[5]]),
        ((1.0, 2.0), [[0, 3], [1, 4]], [[5, 6], [2]]),
        ((), [[0, 1], [2, 3], [4, 5]], [[6]]),
    ],
)
def test_groups_by_hand(boundaries, full, rest) -> None:
    sampler = SequentialSampler(Shapes())
    sampler.dataset = sampler.data_source
    kept = list(SimilarShapeBatchSampler(sampler, 2, boundaries=boundaries))
    assert kept == full + rest
    dropped = SimilarShapeBatchSampler(sampler, 2, drop_last=True, boundaries=boundaries)
    assert list(dropped) == [batch for batch in kept if len(batch) == 2]
    assert len(dropped) == 3 == len(list(dropped))


def test_every_image_once_in_every_epoch() -> None:
    sampler = EpochSampler(Shapes(), seed=0)
    batches = DATA_SAMPLERS.build(
        dict(type='SimilarShapeBatchSampler', sampler=sampler, batch_size=3)
    )
    for epoch in (0, 2):
        sampler.set_epoch(epoch)
        drawn = [index for batch in batches for index in batch]
        assert sorted(drawn) == [epoch * 7 + index for index in range(7)]
        assert len(batches) == 3


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match='aspect_ratio'):
        SimilarShapeBatchSampler(SequentialSampler([1, 2]), 2)
    with pytest.raises(ValueError, match='increasing'):
        SimilarShapeBatchSampler(EpochSampler(Shapes(), seed=0), 2, boundaries=(2.0, 1.0))


def test_sizes_come_from_the_header_as_the_picture_will(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new('RGB', (60, 40)).save(tmp_path / 'a.jpg')
    Image.new('RGB', (60, 40)).save(tmp_path / 'b.jpg', exif=exif)
    (tmp_path / 'c.jpg').write_bytes(b'no image')
    for name in 'ab':
        assert (
            read_image_size(tmp_path / f'{name}.jpg') == read_image(tmp_path / f'{name}.jpg').size
        )
    with pytest.raises(BadImageError, match='cannot be read'):
        read_image_size(tmp_path / 'c.jpg')
    folder = RegionImageFolder(str(tmp_path), region_sampler=lambda *args: None)
    assert [folder.aspect_ratio(3 + index) for index in range(3)] == [1.5, 1 / 1.5, 1.0]
