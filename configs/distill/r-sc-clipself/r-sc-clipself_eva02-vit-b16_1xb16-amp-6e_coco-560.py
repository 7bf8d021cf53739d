# One GPU: 560 px, where a step of 16 images fits in a 24 GB card by estimate (not measured).
# 560 px is the size of DeCLIP's recipe; 1024 px is CLIPSelf's.
_base_ = './r-sc-clipself_eva02-vit-b16_8xb2-amp-6e_coco-1024.py'

model = dict(data_preprocessor=dict(image_size=560))
train_dataloader = dict(batch_size=16, num_workers=8)
# The range of bfloat16 needs no loss scaling.
optim_wrapper = dict(dtype='bfloat16', loss_scale=1.0)
