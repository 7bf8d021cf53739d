# The stage on Cityscapes, 27 classes.
_base_ = ['./cause-codebook_eva02-vit-b16_1xb16-1e_cocostuff27-320.py']

data_root = 'data/cityscapes/'
train_dataloader = dict(dataset=dict(type='Cityscapes27', data_root=data_root, split='train'))
