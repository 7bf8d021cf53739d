# The map with residual and MLP of the last block around the sum: not DenseRC, for short trainings.
_base_ = ['./denserc_microworld.py']

model = dict(student=dict(dense_mode='gated-values-residual'))
