# coco_regions_grid.py from shards:
# python -m refineclip shard data/coco/train2017 --out data/coco/train2017_shards
_base_ = './coco_regions_grid.py'

train_dataloader = dict(
    dataset=dict(type='RegionImageShards', data_root='data/coco/train2017_shards/')
)
