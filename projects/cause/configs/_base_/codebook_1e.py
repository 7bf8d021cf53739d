# Stage 1. 2,048 concepts and one epoch are CAUSE's published defaults; the rest is ours.
_base_ = ['./encoder_eva02-vit-b16.py']

model = dict(
    type='CauseCodebookTraining',
    data_preprocessor=_base_.preprocessor,
    encoder=_base_.encoder,
    num_concepts=2048,
    temperature=0.1,
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
auto_scale_lr = dict(enable=False, base_batch_size=16)
