# Region accuracy and spatial awareness on COCO panoptic during training: the switch is this base.
# The first images keep a validation short; dataset.limit=None takes the whole split.
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PanopticEvaluationDataset', data_root='data/coco/', split='val2017', limit=100
    ),
)
val_cfg = dict(type='ValLoop')
val_evaluator = [
    # Affinity and per-image clusters fall when alignment damages the map, the k-NN does not.
    # It holds the tokens of all its images at once, hence a limit of its own.
    dict(type='SpatialAwarenessMetric', measures=('auc', 'imk', 'knn'), limit=100),
]

# tools/test.py and mim test: all measures on the same images.
test_dataloader = val_dataloader
test_cfg = dict(type='TestLoop')
test_evaluator = [dict(type='SpatialAwarenessMetric', limit=100)]
