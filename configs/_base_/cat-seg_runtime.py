# Runs of segmentors that count iterations.
_base_ = './iter_runtime.py'

default_scope = 'mmseg'
custom_imports = dict(
    imports=['refineclip.encoders', 'refineclip.segmentation', 'refineclip.distill.hooks'],
    allow_failed_imports=False,
)
# The released recipe evaluates every 5,000 iterations.
default_hooks = dict(
    checkpoint=dict(interval=5000),
    # Label maps that show no class are an error before training.
    label_maps=dict(type='LabelMapHook'),
)
# The classes of the data set are the vocabulary, in training, validation and test.
custom_hooks = [dict(type='VocabularyHook')]
visualizer = dict(type='SegLocalVisualizer', name='visualizer')
