# The context weight of the published script, where the paper says 0.25.
_base_ = ['./declip_dinov2-vit-s14_coco-pilot.py']

model = dict(context=dict(loss_weight=0.1))
