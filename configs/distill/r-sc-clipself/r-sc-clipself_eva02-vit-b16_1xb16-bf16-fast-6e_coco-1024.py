# The same recipe on one large GPU with every lever that changes no number but by rounding
# (docs/performance.md): bfloat16, blocks compiled one by one, fused AdamW, and crop embeddings
# kept on disk, which a second run of the same seed finds again (about 9 GB for COCO).
_base_ = './r-sc-clipself_eva02-vit-b16_8xb2-amp-6e_coco-1024.py'

model = dict(
    student=dict(compile_blocks={}),
    cache_dir='work_dirs/cache',
    cache_features=('crops',),
)
# 16 images per step, as 8 x 2; one batch fits a card of 80 GB by estimate (not measured).
train_dataloader = dict(batch_size=16, num_workers=8)
optim_wrapper = dict(
    # The range of bfloat16 needs no loss scaling.
    dtype='bfloat16',
    loss_scale=1.0,
    optimizer=dict(fused=True),
)
