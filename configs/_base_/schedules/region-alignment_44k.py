# CLIPSelf's schedule as its published code really runs it. That code calls the model past its
# distributed wrapper, so gradients are not averaged, and the weights that "8 GPUs x 2 images" save
# are those of one process with 2 images a step: 44,358 = 6 epochs x 7,393 steps, 0.75 passes over
# COCO. The mechanism was measured on a toy; that the published weights were so made is a deduction.
_base_ = './region-alignment_6e.py'

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=44358)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=1000),
]
# lr 1e-5 is that of 2 images per step here.
auto_scale_lr = dict(base_batch_size=2)
