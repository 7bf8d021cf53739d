# F-ViT (CLIPSelf, arXiv 2310.01403) on a ViT-B/16 with embeddings of 512, boxes only.
# Numbers without a source of their own are those of CLIPSelf's published F-ViT configs.
width = 768
embed_dims = 512
strides = [4, 8, 16, 32, 64]
norm_cfg = dict(type='SyncBN', requires_grad=True)  # BN is the same in one process

model = dict(
    type='FViT',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        # ImageNet's, not CLIP's: published so for EVA towers, on a backbone distilled with CLIP's.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        # Published: padded to a square of the image size. 32, twice the patch, pads less.
        pad_size_divisor=640,
    ),
    backbone=dict(
        type='RefinerCLIP',
        model='EVA02-B-16',
        pretrained='merged2b_s8b_b131k',
        # Of stage 2: model.backbone.init_cfg.checkpoint=work_dirs/.../refined_epoch_6.pth
        init_cfg=dict(type='Pretrained', checkpoint=None),
        frozen=True,
        dense_mode='value',
        out_indices=(3, 5, 7, 11),
    ),
    neck=[
        dict(type='UpsampleStem', embed_dims=width, norm_cfg=norm_cfg),
        dict(type='FPN', in_channels=[width] * 4, out_channels=256, norm_cfg=norm_cfg, num_outs=5),
    ],
    rpn_head=dict(
        type='RPNHead',
        in_channels=256,
        feat_channels=256,
        num_convs=2,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=strides
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[1.0] * 4),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
    ),
    roi_head=dict(
        type='FViTRoIHead',
        # The temperature to retune for other or refined weights is vlm_temperature: DeCLIP, which
        # changes nothing else for its backbones, names 45 (OV-COCO) and 90 (OV-LVIS).
        # --cfg-options model.roi_head.score_fusion.vlm_temperature=45
        score_fusion=dict(alpha=0.1, beta=0.8, vlm_temperature=75.0),
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            # mmdet's default of Faster R-CNN for the sampling.
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=strides[:4],
        ),
        bbox_head=dict(
            type='FViTBBoxHead',
            in_channels=256,
            roi_feat_size=7,
            fc_out_channels=embed_dims,
            # Published: one linear layer per branch after the shared two, each with its ReLU; the
            # classifier's projection is that of the class branch.
            num_reg_fcs=1,
            norm_cfg=norm_cfg,
            classifier=dict(
                split='ov-coco',
                relu=True,
                temperature=50.0,
                text=dict(
                    model='EVA02-B-16',
                    pretrained='merged2b_s8b_b131k',
                    templates='vild',
                    cache_dir='work_dirs/text_embeddings',
                ),
            ),
            background_weight=0.6,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0] * 4,
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type='RandomSampler',
                num=256,
                pos_fraction=0.5,
                neg_pos_ub=-1,
                add_gt_as_proposals=False,
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=2000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type='RandomSampler',
                num=512,
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            mask_size=28,
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=2000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            score_thr=0.01,
            nms=dict(type='nms', iou_threshold=0.4),
            max_per_img=100,
            mask_thr_binary=0.5,
        ),
    ),
)
