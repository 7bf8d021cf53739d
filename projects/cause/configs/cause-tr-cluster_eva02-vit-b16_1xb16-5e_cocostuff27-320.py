# Stage 3 on COCO-Stuff: the clusters of CAUSE-TR, and the evaluation.
_base_ = ['_base_/cluster_5e.py', '_base_/cocostuff27_val.py', '_base_/cause_runtime.py']

model = dict(
    checkpoint='work_dirs/cause-tr_eva02-vit-b16_1xb16-2e_cocostuff27-320/epoch_2.pth',
)
