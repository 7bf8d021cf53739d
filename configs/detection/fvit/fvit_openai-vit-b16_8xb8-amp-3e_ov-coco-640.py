# F-ViT on OpenAI CLIP B/16; alpha, beta and temperatures of CLIM are those of F-ViT.
_base_ = [
    '../../_base_/models/fvit.py',
    '../../_base_/datasets/ov-coco_detection.py',
    '../_base_/schedule_3e.py',
    '../_base_/runtime.py',
]

model = dict(
    # CLIM's settings for OpenAI towers: CLIP's mean and std, and a learned background.
    data_preprocessor=dict(
        mean=[122.7709, 116.7460, 104.0937],
        std=[68.5005, 66.6322, 70.3232],
    ),
    backbone=dict(model='ViT-B-16-quickgelu', pretrained='openai'),
    roi_head=dict(
        bbox_head=dict(
            classifier=dict(
                learn_background=True,
                text=dict(model='ViT-B-16-quickgelu', pretrained='openai'),
            )
        ),
    ),
)
