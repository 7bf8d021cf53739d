# The training images of LVIS v1, which are COCO's files: only their list is read.
_base_ = './coco_regions_grid.py'

train_dataloader = dict(
    dataset=dict(data_root='data/coco/', ann_file='data/lvis_v1/annotations/lvis_v1_train.json')
)
