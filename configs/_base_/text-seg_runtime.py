# Testing a segmentor that is not trained.
default_scope = 'mmseg'
custom_imports = dict(
    imports=['refineclip.encoders', 'refineclip.segmentation'], allow_failed_imports=False
)


# Scale of Resize where a benchmark has its own, for `python -m refineclip evaluate segmentation`;
# as in _base_/datasets/seg-cityscapes.py.
benchmark_scales = dict(cityscapes=(2048, 560))
# The classes of the data set are the vocabulary.
custom_hooks = [dict(type='VocabularyHook')]
default_hooks = dict(logger=dict(type='LoggerHook', interval=50))
log_processor = dict(by_epoch=False)
log_level = 'INFO'
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# Several processes share nothing but the results.
model_wrapper_cfg = dict(type='UntrainedModelWrapper')
randomness = dict(seed=0)
