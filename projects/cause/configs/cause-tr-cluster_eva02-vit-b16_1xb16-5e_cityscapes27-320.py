# The stage on Cityscapes, 27 classes.
_base_ = ['./cause-tr-cluster_eva02-vit-b16_1xb16-5e_cocostuff27-320.py']

data_root = 'data/cityscapes/'
model = dict(
    checkpoint='work_dirs/cause-tr_eva02-vit-b16_1xb16-2e_cityscapes27-320/epoch_2.pth',
)
train_dataloader = dict(dataset=dict(type='Cityscapes27', data_root=data_root, split='train'))
val_dataloader = dict(dataset=dict(type='Cityscapes27', data_root=data_root, split='val'))
test_dataloader = val_dataloader
