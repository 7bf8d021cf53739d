# default_runtime.py for runs that count iterations.
_base_ = './default_runtime.py'

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=1000),
    # Validation curves over iterations, not over epochs that such a run does not count.
    logger=dict(log_metric_by_epoch=False),
)
log_processor = dict(by_epoch=False)
