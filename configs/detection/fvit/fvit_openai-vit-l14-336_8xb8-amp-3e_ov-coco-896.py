# F-ViT on OpenAI CLIP L/14-336. No one published it: the sizes of EVA-02 L/14, CLIM's settings.
_base_ = [
    '../../_base_/models/fvit_l14.py',
    '../../_base_/datasets/ov-coco_detection-896.py',
    '../_base_/schedule_3e.py',
    '../_base_/runtime.py',
]

model = dict(
    # CLIM's settings for OpenAI towers: CLIP's mean and std, and a learned background.
    data_preprocessor=dict(
        mean=[122.7709, 116.7460, 104.0937],
        std=[68.5005, 66.6322, 70.3232],
    ),
    backbone=dict(model='ViT-L-14-336-quickgelu', pretrained='openai'),
    roi_head=dict(
        bbox_head=dict(
            classifier=dict(
                learn_background=True,
                text=dict(model='ViT-L-14-336-quickgelu', pretrained='openai'),
            )
        ),
    ),
)
