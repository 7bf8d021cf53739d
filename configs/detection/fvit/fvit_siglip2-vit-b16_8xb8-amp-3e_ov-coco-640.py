# F-ViT on SigLIP 2 B/16. No one published it: the sizes of EVA-02 B/16, CLIM's settings. SigLIP was
# trained with a sigmoid and a bias, and its cosines have another range than CLIP's: of all numbers
# here, model.roi_head.score_fusion.vlm_temperature is the one to retune first.
_base_ = [
    '../../_base_/models/fvit.py',
    '../../_base_/datasets/ov-coco_detection.py',
    '../_base_/schedule_3e.py',
    '../_base_/runtime.py',
]

model = dict(
    # Normalisation of the tower, and a learned background, as CLIM sets them for OpenAI's.
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(model='ViT-B-16-SigLIP2', pretrained='webli'),
    roi_head=dict(
        bbox_head=dict(
            fc_out_channels=768,
            classifier=dict(
                learn_background=True,
                text=dict(model='ViT-B-16-SigLIP2', pretrained='webli'),
            ),
        ),
    ),
)
