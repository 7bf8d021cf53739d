# What every stage shares.
custom_imports = dict(
    imports=['refineclip.encoders', 'refineclip.distill', 'projects.cause.cause'],
    allow_failed_imports=False,
)
default_scope = 'mmengine'

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2),
)
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
    broadcast_buffers=False,
    # The data preprocessor places the data, so one wrapper serves GPUs and CPUs.
    device_ids=None,
)
randomness = dict(seed=0)
load_from = None
resume = False
