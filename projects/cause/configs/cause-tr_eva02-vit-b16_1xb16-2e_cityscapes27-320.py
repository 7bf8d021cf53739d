# The stage on Cityscapes, 27 classes.
_base_ = ['./cause-tr_eva02-vit-b16_1xb16-2e_cocostuff27-320.py']

data_root = 'data/cityscapes/'
model = dict(
    checkpoint='work_dirs/cause-codebook_eva02-vit-b16_1xb16-1e_cityscapes27-320/epoch_1.pth',
)
train_dataloader = dict(dataset=dict(type='Cityscapes27', data_root=data_root, split='train'))
# train_front_door_tr.py: no decay, and clipping at 1, on Cityscapes.
optim_wrapper = dict(optimizer=dict(weight_decay=0), clip_grad=dict(max_norm=1.0))
