# Any folder of images, searched recursively:
#   --cfg-options train_dataloader.dataset.data_root=/path/to/photos
# The stream of epochs has no end and drops no image, so that a small folder works too.
_base_ = './coco_regions_random-crops.py'

train_dataloader = dict(
    sampler=dict(type='InfiniteEpochSampler'),
    dataset=dict(data_root='data/photos/'),
)
