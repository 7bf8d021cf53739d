# F-ViT on a ViT-L/14 with embeddings of 768: strides are fractions of those of patch 16.
_base_ = './fvit.py'

width = 1024
embed_dims = 768
strides = [3.5, 7, 14, 28, 56]
norm_cfg = dict(type='SyncBN', requires_grad=True)

model = dict(
    data_preprocessor=dict(pad_size_divisor=896),
    backbone=dict(
        model='EVA02-L-14-336', pretrained='merged2b_s6b_b61k', out_indices=(6, 10, 14, 23)
    ),
    neck=[
        dict(type='UpsampleStem', embed_dims=width, norm_cfg=norm_cfg),
        dict(type='FPN', in_channels=[width] * 4, out_channels=256, norm_cfg=norm_cfg, num_outs=5),
    ],
    rpn_head=dict(anchor_generator=dict(strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=strides[:4]),
        bbox_head=dict(
            fc_out_channels=embed_dims,
            classifier=dict(
                text=dict(model='EVA02-L-14-336', pretrained='merged2b_s6b_b61k'),
            ),
        ),
    ),
)
