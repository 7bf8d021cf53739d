# F-ViT on SigLIP 2 L/16-384. No one published it: image size and taps of EVA-02 L/14, strides of
# patch 16, CLIM's settings. SigLIP was trained with a sigmoid and a bias, and its cosines have
# another range than CLIP's: of all numbers here, model.roi_head.score_fusion.vlm_temperature is the
# one to retune first.
_base_ = [
    '../../_base_/models/fvit.py',
    '../../_base_/datasets/ov-coco_detection-896.py',
    '../_base_/schedule_3e.py',
    '../_base_/runtime.py',
]

width = 1024
model = dict(
    # Normalisation of the tower, and a learned background, as CLIM sets them for OpenAI's.
    data_preprocessor=dict(
        mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], pad_size_divisor=896
    ),
    backbone=dict(model='ViT-L-16-SigLIP2-384', pretrained='webli', out_indices=(6, 10, 14, 23)),
    neck=[
        dict(type='UpsampleStem', embed_dims=width, norm_cfg=_base_.norm_cfg),
        dict(
            type='FPN',
            in_channels=[width] * 4,
            out_channels=256,
            norm_cfg=_base_.norm_cfg,
            num_outs=5,
        ),
    ],
    roi_head=dict(
        bbox_head=dict(
            fc_out_channels=1024,
            classifier=dict(
                learn_background=True,
                text=dict(model='ViT-L-16-SigLIP2-384', pretrained='webli'),
            ),
        ),
    ),
)
