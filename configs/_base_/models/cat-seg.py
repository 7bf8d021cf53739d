# CAT-Seg (CVPR 2024, arXiv 2303.11797), OpenAI B/16. Numbers without another source are those of
# the released configs/vitb_384.yaml and code.
model = dict(
    type='CATSeg',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        # CLIP's own, times 255.
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],
        bgr_to_rgb=True,
        size=(384, 384),
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='RefinerCLIP',
        # Quick GELU by name, so that it stays when a checkpoint replaces the weights of the tag.
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        # The position embedding is resized once, when the weights are read.
        model_kwargs=dict(vision_cfg=dict(image_size=384)),
        dense_mode='value-cls',
        # Guidance of the decoder from blocks 3 and 7, dense embeddings from the last.
        out_indices=(3, 7, 11),
        frozen=False,
        # A refined tower: model.backbone.init_cfg.checkpoint=work_dirs/.../refined_epoch_6.pth
        init_cfg=dict(type='Pretrained', checkpoint=None),
    ),
    text_encoder=dict(
        type='PromptedTextEncoder',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        prompt='A photo of a {} in the scene',
    ),
    clip_tuning='query-value',
    input_size=(384, 384),
    decode_head=dict(
        type='CostAggregationHead',
        guidance_channels=(256, 128),
        aggregator=dict(
            embed_dims=128,
            guidance_dims=128,
            # Both released models have 2; their common base config says 4.
            num_layers=2,
            num_heads=4,
            window_size=12,
            pad_len=256,
            pooling_size=2,
            test_pooling_size=1,
            decoder_channels=(64, 32),
            decoder_guidance_channels=(32, 16),
        ),
        # The released code counts pixels without a class as negatives of every class.
        loss_decode=dict(type='PixelBCELoss', ignored_as_negative=True),
    ),
    # 640 px whatever the aspect; stride int(384 * (1 - 0.333)); and one view of the whole image.
    test_cfg=dict(mode='windows', size=(640, 640), window=384, stride=256),
)
