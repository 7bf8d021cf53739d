# Testing a segmentor that is not trained.
default_scope = 'mmseg'
custom_imports = dict(
    imports=['refineclip.encoders', 'refineclip.segmentation'], allow_failed_imports=False
)

# What SCLIP's released configs set for single benchmarks, for one config that `python -m refineclip
# evaluate segmentation` runs on all: the scale of Resize, and keys of the model. Each benchmark's
# own config says the same.
benchmark_scales = {'cityscapes': (2048, 560), 'coco-stuff': (2048, 448)}
benchmark_thresholds = {
    'voc21': dict(logit_scale=65.0, area_thd=0.1),
    'pc60': dict(logit_scale=50.0),
    'coco-object': dict(logit_scale=50.0),
}
# The classes of the data set are the vocabulary.
custom_hooks = [dict(type='VocabularyHook')]
default_hooks = dict(logger=dict(type='LoggerHook', interval=50))
log_processor = dict(by_epoch=False)
log_level = 'INFO'
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Seconds that processes wait for each other: one alone scores what all have gathered.
    dist_cfg=dict(backend='nccl', timeout=7200),
)
# Several processes share nothing but the results.
model_wrapper_cfg = dict(type='UntrainedModelWrapper')
randomness = dict(seed=0)
