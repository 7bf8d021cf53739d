# What every detector's run shares.
default_scope = 'mmdet'
custom_imports = dict(
    imports=['refineclip.encoders', 'refineclip.detection', 'refineclip.distill.hooks'],
    allow_failed_imports=False,
)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Exact training state, for --resume; two are kept so that a kill while saving leaves one.
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2),
    # SIGTERM ends a run with a checkpoint of its last step and status 143.
    preemption=dict(type='PreemptionHook'),
    # Fewer images than a batch are an error, not epochs without a step.
    training_data=dict(type='TrainingDataHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
custom_hooks = [dict(type='DetVocabularyHook')]

log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
visualizer = dict(
    type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Seconds that processes wait for each other: one alone scores what all have gathered.
    dist_cfg=dict(backend='nccl', timeout=7200),
)
randomness = dict(seed=0)
load_from = None
resume = False
