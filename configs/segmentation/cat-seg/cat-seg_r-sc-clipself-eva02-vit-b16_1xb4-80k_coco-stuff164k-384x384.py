# A refined tower: what stage 2 saved beside its checkpoints, any method. Nothing else changes, as
# in the published comparisons of CLIPSelf's author and of DeCLIP (CVPR 2025).
_base_ = './cat-seg_eva02-vit-b16_1xb4-80k_coco-stuff164k-384x384.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/r-sc-clipself_eva02-vit-b16_8xb2-amp-6e_coco-1024/'
            'refined_epoch_6.pth',
        ),
    )
)
