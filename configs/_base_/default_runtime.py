# What every training run shares.
default_scope = 'mmengine'
custom_imports = dict(
    imports=[
        'refineclip.encoders',
        'refineclip.datasets',
        'refineclip.distill',
        'refineclip.evaluation',
    ],
    allow_failed_imports=False,
)

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    # Exact training state, for --resume; two are kept so that a kill while saving leaves one.
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2),
    # SIGTERM ends a run with a checkpoint of its last step and status 143.
    preemption=dict(type='PreemptionHook'),
    # Fewer images than a batch are an error, not epochs without a step.
    training_data=dict(type='TrainingDataHook'),
)
# More unusable images than this share of the dataset stop the run.
custom_hooks = [dict(type='BadImageHook', max_bad_fraction=0.01)]

# Logged numbers are means over the window; the time to go (eta) is estimated over the whole run.
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Seconds that processes wait for each other: one alone scores what all have gathered.
    dist_cfg=dict(backend='nccl', timeout=7200),
)
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel',
    # The value mode drops query and key of the last block, whose projections get no gradient.
    find_unused_parameters=True,
    broadcast_buffers=False,
    # The data preprocessor places the data, so one wrapper serves GPUs and CPUs.
    device_ids=None,
)

randomness = dict(seed=0)
load_from = None
resume = False
