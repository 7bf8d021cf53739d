# F-ViT's OV-COCO detector on EVA-02-CLIP B/16.
_base_ = [
    '../../_base_/models/fvit.py',
    '../../_base_/datasets/ov-coco_detection.py',
    '../_base_/schedule_3e.py',
    '../_base_/runtime.py',
]
