# All blocks learn: the variant of the published code.
_base_ = ['./single-pass_dinov2-vit-s14_coco-pilot.py']

model = dict(student=dict(trainable_blocks=None))
