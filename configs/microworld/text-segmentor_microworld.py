# Segmentation of the drawn world by words alone; nothing is trained.
# Data and metric are CAT-Seg's.
_base_ = ['./cat-seg_microworld.py']

model = dict(
    _delete_=True,
    type='TextSegmentor',
    # A refined one: model.backbone.init_cfg.checkpoint=work_dirs/.../refined_iter_300.pth
    backbone=dict(
        type='RefinerCLIP',
        model='microworld-clip',
        pretrained='shipped',
        dense_mode='value',
        init_cfg=dict(type='Pretrained', checkpoint=None),
    ),
    text=dict(model='microworld-clip', pretrained='shipped', templates=['a {}']),
    test_cfg=dict(mode='whole'),
)
train_dataloader = None
train_cfg = None
optim_wrapper = None
param_scheduler = None
val_dataloader = None
val_cfg = None
val_evaluator = None
