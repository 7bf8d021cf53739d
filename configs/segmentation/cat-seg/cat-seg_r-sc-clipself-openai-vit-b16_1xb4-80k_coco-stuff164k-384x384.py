# A refined OpenAI tower. Stage 2 saves position embeddings of the native 14 x 14, which are resized
# at each pass here; the unrefined config has those of 24 x 24, as the released checkpoint.
_base_ = './cat-seg_openai-vit-b16_1xb4-80k_coco-stuff164k-384x384.py'

model = dict(
    backbone=dict(
        model_kwargs=None,
        init_cfg=dict(
            checkpoint='work_dirs/r-sc-clipself_openai-vit-b16_8xb2-amp-6e_coco-1024/'
            'refined_epoch_6.pth'
        ),
    )
)
