_base_ = [
    '../../_base_/models/text-seg_openai-vit-b16.py',
    '../../_base_/datasets/seg-coco-object.py',
    '../../_base_/text-seg_runtime.py',
]

# SCLIP's released config.
model = dict(logit_scale=50.0)
