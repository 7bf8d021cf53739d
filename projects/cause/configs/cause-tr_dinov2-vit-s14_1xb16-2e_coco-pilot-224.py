# Small run on a CPU: 100 photos, 224 px, the DINOv2-S derivative of docs/real_pilot.md.
_base_ = ['./cause-tr_eva02-vit-b16_1xb16-2e_cocostuff27-320.py']

data_root = 'data/cocostuff27_pilot/'
image_size = 224
model = dict(
    encoder=dict(
        model='timm/vit_small_patch14_dinov2',
        pretrained='weights/vit_small_patch14_dinov2.safetensors',
        dense_mode='plain',
    ),
    # ImageNet's normalisation, times 255.
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    cache_dir='work_dirs/cause-pilot-cache',
    checkpoint='work_dirs/cause-codebook_dinov2-vit-s14_1xb16-1e_coco-pilot-224/epoch_1.pth',
)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, image_size=image_size),
)
default_hooks = dict(logger=dict(interval=5))
