# Stage 3 on COCO-Stuff: the clusters of CAUSE-MLP, and the evaluation.
_base_ = ['_base_/cluster_5e.py', '_base_/cocostuff27_val.py', '_base_/cause_runtime.py']

model = dict(
    head=dict(_delete_=True, type='CauseMLPHead', embed_dims=90),
    checkpoint='work_dirs/cause-mlp_eva02-vit-b16_1xb16-2e_cocostuff27-320/epoch_2.pth',
)
