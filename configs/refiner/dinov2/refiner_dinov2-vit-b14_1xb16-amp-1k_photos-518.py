_base_ = './refiner_dinov2-vit-s14_1xb16-amp-1k_photos-518.py'

model = dict(encoder=dict(model='timm/vit_base_patch14_dinov2'))
