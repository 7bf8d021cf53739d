# The same training, measured after every epoch on COCO panoptic val2017, with TensorBoard curves
# (pip install tensorboard). Needs panoptic_annotations_trainval2017.zip; without it, take the
# config that this one inherits from.
_base_ = [
    './r-sc-clipself_eva02-vit-b16_8xb2-amp-6e_coco-1024.py',
    '../../_base_/evaluation/coco-panoptic.py',
]

train_cfg = dict(val_interval=1)
# All 5000 images, as published; limit=500 for a quick look.
val_dataloader = dict(dataset=dict(limit=None))
test_dataloader = val_dataloader
val_evaluator = [
    *_base_.val_evaluator,
    # CLIPSelf's protocol, and as there of the blended weights: WeightEnsembleHook.validate.
    dict(
        type='RegionAccuracyMetric',
        protocol='clipself',
        text=dict(model='EVA02-B-16', pretrained='merged2b_s8b_b131k', cache_dir='work_dirs/texts'),
    ),
]
test_evaluator = val_evaluator
visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
