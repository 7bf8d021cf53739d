# Runs of segmentors that count iterations.
_base_ = './iter_runtime.py'

default_scope = 'mmseg'
custom_imports = dict(
    imports=['refineclip.encoders', 'refineclip.segmentation', 'refineclip.distill.hooks'],
    allow_failed_imports=False,
)
default_hooks = dict(
    # CAT-Seg's released recipe evaluates, and may save, every 5,000 iterations.
    checkpoint=dict(interval=5000),
    visualization=dict(type='SegVisualizationHook'),
)
# The classes of the data set are the vocabulary, in training, validation and test.
custom_hooks = [dict(type='VocabularyHook')]
visualizer = dict(type='SegLocalVisualizer', name='visualizer')
