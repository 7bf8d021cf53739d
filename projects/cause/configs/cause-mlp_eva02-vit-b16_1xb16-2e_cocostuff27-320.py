# Stage 2 on COCO-Stuff: CAUSE-MLP.
_base_ = ['_base_/front-door_2e.py', '_base_/cocostuff27.py', '_base_/cause_runtime.py']

model = dict(
    head=dict(_delete_=True, type='CauseMLPHead', embed_dims=90),
    checkpoint='work_dirs/cause-codebook_eva02-vit-b16_1xb16-1e_cocostuff27-320/epoch_1.pth',
)
# train_front_door_mlp.py: clipping at 0.1 on COCO-Stuff-27.
optim_wrapper = dict(clip_grad=dict(max_norm=0.1))
