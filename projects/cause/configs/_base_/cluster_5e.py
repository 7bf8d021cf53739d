# Stage 3. Five epochs are CAUSE's published default; the rest is ours.
_base_ = ['./encoder_eva02-vit-b16.py']

model = dict(
    type='CauseClusterProbe',
    data_preprocessor=_base_.preprocessor,
    encoder=_base_.encoder,
    head=dict(type='CauseTransformerHead', embed_dims=90, num_heads=8),
    num_concepts=2048,
    num_clusters=27,
    loss='cosine',
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=5, val_interval=5)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
auto_scale_lr = dict(enable=False, base_batch_size=16)
