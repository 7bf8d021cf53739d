_base_ = [
    '../../_base_/models/text-seg_openai-vit-b16.py',
    '../../_base_/datasets/seg-coco-stuff.py',
    '../../_base_/text-seg_runtime.py',
]
