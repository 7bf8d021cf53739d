# OV-COCO on one GPU: 8 images a step in place of 64, and lr by the linear rule, 1e-4 * 8 / 64; the
# warm-up sees as many images as the published one. Not a published recipe.
_base_ = './fvit_eva02-vit-b16_8xb8-amp-3e_ov-coco-640.py'

optim_wrapper = dict(optimizer=dict(lr=1.25e-5))
param_scheduler = [dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=2000)]
auto_scale_lr = dict(base_batch_size=8)
