# Stage 2. 2,048 concepts, 90 and 2,048 channels, two epochs, thresholds, temperature and optimiser
# are CAUSE's published defaults; the rest is ours.
_base_ = ['./encoder_eva02-vit-b16.py']

model = dict(
    type='CauseFrontDoor',
    data_preprocessor=_base_.preprocessor,
    encoder=_base_.encoder,
    head=dict(type='CauseTransformerHead', embed_dims=90, num_heads=8),
    num_concepts=2048,
    projection_dims=2048,
    positive_threshold=0.3,
    negative_threshold=0.1,
    temperature=0.07,
    ema_momentum=0.01,
    num_anchors=100,
    bank_size=8192,
    max_per_concept=4,
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
# train_front_door_tr.py: Adam at a constant 1e-3 times the number of GPUs (what --auto-scale-lr
# does); decay and clipping are those of COCO-Stuff-27.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=1e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=2.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
