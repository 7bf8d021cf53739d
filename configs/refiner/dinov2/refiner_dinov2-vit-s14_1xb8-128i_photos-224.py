# The same for a CPU: size, batch and number of steps of our pilot on real photos.
_base_ = './refiner_dinov2-vit-s14_1xb16-amp-1k_photos-518.py'

model = dict(data_preprocessor=dict(image_size=224, crop_size=224))
train_dataloader = dict(batch_size=8, num_workers=2)
optim_wrapper = dict(type='OptimWrapper')
train_cfg = dict(max_iters=128)
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(logger=dict(interval=8))
