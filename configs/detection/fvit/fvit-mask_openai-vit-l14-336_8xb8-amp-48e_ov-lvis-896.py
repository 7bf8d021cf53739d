# F-ViT's OV-LVIS recipe on OpenAI CLIP L/14-336. Not published: CLIM's own detector for OpenAI
# towers has another neck (NAS-FPN), lr 4e-4 at batch 128, alpha 0.35 and beta 0.65.
_base_ = './fvit-mask_eva02-vit-l14-336_8xb8-amp-48e_ov-lvis-896.py'

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
