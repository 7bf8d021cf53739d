_base_ = [
    '../../_base_/models/cat-seg_vit-l14-336.py',
    '../../_base_/datasets/coco-stuff164k_384.py',
    '../../_base_/schedules/cat-seg_80k.py',
    '../../_base_/cat-seg_runtime.py',
]
