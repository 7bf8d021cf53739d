# All blocks learn: the variant of the published code.
_base_ = ['./single-pass_microworld.py']

model = dict(student=dict(trainable_blocks=None))
