# F-ViT's OV-COCO detector on EVA-02-CLIP L/14-336.
_base_ = [
    '../../_base_/models/fvit_l14.py',
    '../../_base_/datasets/ov-coco_detection-896.py',
    '../_base_/schedule_3e.py',
    '../_base_/runtime.py',
]
