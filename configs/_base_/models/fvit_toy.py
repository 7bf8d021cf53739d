# F-ViT on the tiny CLIP that this package ships (patch 8, five blocks, width 128, embeddings of
# 128): for tests and the microworld. It has seen no photograph.
_base_ = './fvit.py'

width = 128
embed_dims = 128
strides = [2, 4, 8, 16, 32]
norm_cfg = dict(type='BN', requires_grad=True)

model = dict(
    data_preprocessor=dict(
        # refineclip/assets/microworld-clip/open_clip_config.json, times 255.
        mean=[127.5] * 3,
        std=[63.75] * 3,
        pad_size_divisor=16,
    ),
    backbone=dict(model='microworld-clip', pretrained='shipped', out_indices=(1, 2, 3, 4)),
    neck=[
        dict(type='UpsampleStem', embed_dims=width, norm_cfg=norm_cfg),
        dict(type='FPN', in_channels=[width] * 4, out_channels=32, norm_cfg=norm_cfg, num_outs=5),
    ],
    rpn_head=dict(in_channels=32, feat_channels=32, anchor_generator=dict(strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=32,
            featmap_strides=strides[:4],
            # Levels in the proportion of mmdet's 56 at stride 4.
            finest_scale=28,
        ),
        bbox_head=dict(
            in_channels=32,
            conv_out_channels=32,
            fc_out_channels=embed_dims,
            norm_cfg=norm_cfg,
            classifier=dict(
                text=dict(model='microworld-clip', pretrained='shipped', templates='photo'),
            ),
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)),
)
