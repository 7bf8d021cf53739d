# The context weight of the published script, where the paper says 0.25.
_base_ = ['./declip_eva02-vit-b16_dinov2-vit-b14_1xb16-amp-6e_coco-560.py']

model = dict(context=dict(loss_weight=0.1))
