# DINOv2 B/14, vision only, at 322 px: the multiple of 14 nearest to 320.
_base_ = ['./cause-tr_eva02-vit-b16_1xb16-2e_cocostuff27-320.py']

image_size = 322
model = dict(
    encoder=dict(model='timm/vit_base_patch14_dinov2', pretrained='lvd142m', dense_mode='plain'),
    # ImageNet's normalisation, times 255.
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    checkpoint='work_dirs/cause-codebook_dinov2-vit-b14_1xb16-1e_cocostuff27-322/epoch_1.pth',
)
train_dataloader = dict(dataset=dict(image_size=image_size))
