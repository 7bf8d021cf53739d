"""Images and regions: folders, samplers, collation. Importing this registers them."""

from refineclip.datasets.bad_images import BadImageHook, TooManyBadImagesError
from refineclip.datasets.batch_samplers import SimilarShapeBatchSampler
from refineclip.datasets.collate import collate_regions
from refineclip.datasets.image_folder import RegionImageFolder
from refineclip.datasets.image_io import BadImageError, read_image
from refineclip.datasets.loading import LoadUprightImage
from refineclip.datasets.samplers import EpochSampler, InfiniteEpochSampler
from refineclip.datasets.shards import RegionImageShards
from refineclip.datasets.training_data import TrainingDataHook

__all__ = [
    'BadImageError',
    'BadImageHook',
    'EpochSampler',
    'InfiniteEpochSampler',
    'LoadUprightImage',
    'RegionImageFolder',
    'RegionImageShards',
    'SimilarShapeBatchSampler',
    'TooManyBadImagesError',
    'TrainingDataHook',
    'collate_regions',
    'read_image',
]
