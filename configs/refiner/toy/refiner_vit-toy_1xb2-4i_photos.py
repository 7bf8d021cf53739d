# The smallest run of stage 1: a random ViT of 4 blocks, 4 steps, any folder of photos, a CPU.
# It proves an installation (`mim train refineclip-mm` on it); it teaches nothing.
_base_ = [
    '../../_base_/models/refiner-training.py',
    '../../_base_/datasets/photos_regions_random-crops.py',
    '../../_base_/schedules/refiner_1k.py',
    '../../_base_/iter_runtime.py',
]

model = dict(
    data_preprocessor=dict(image_size=64, crop_size=64),
    encoder=dict(
        model=dict(
            embed_dim=32,
            vision_cfg=dict(image_size=64, layers=4, width=32, head_width=16, patch_size=16),
        ),
        refiner=dict(num_blocks=2),
    ),
)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
optim_wrapper = dict(type='OptimWrapper')
train_cfg = dict(max_iters=4)
param_scheduler = []
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(logger=dict(interval=1))
