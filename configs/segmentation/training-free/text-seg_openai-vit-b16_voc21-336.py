_base_ = [
    '../../_base_/models/text-seg_openai-vit-b16.py',
    '../../_base_/datasets/seg-voc21.py',
    '../../_base_/text-seg_runtime.py',
]

# SCLIP's released config.
model = dict(logit_scale=65.0, area_thd=0.1)
