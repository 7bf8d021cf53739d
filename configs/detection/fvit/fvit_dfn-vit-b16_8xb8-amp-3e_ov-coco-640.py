# F-ViT on DFN B/16. No one published it: the sizes of EVA-02 B/16, CLIM's settings.
_base_ = [
    '../../_base_/models/fvit.py',
    '../../_base_/datasets/ov-coco_detection.py',
    '../_base_/schedule_3e.py',
    '../_base_/runtime.py',
]

model = dict(
    # Normalisation of the tower, and a learned background, as CLIM sets them for OpenAI's.
    data_preprocessor=dict(
        mean=[122.7709, 116.7460, 104.0937],
        std=[68.5005, 66.6322, 70.3232],
    ),
    backbone=dict(model='ViT-B-16-quickgelu', pretrained='dfn2b'),
    roi_head=dict(
        bbox_head=dict(
            classifier=dict(
                learn_background=True,
                text=dict(model='ViT-B-16-quickgelu', pretrained='dfn2b'),
            ),
        ),
    ),
)
