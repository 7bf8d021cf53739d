# VOC2007 test, 20 classes, as a test of a detector that was trained on LVIS. Layout: mmdet's.
_base_ = './transfer-coco_detection.py'
data_root = 'data/VOCdevkit/'

test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VOCDataset',
        data_root=data_root,
        ann_file='VOC2007/ImageSets/Main/test.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    )
)
# The IoU thresholds that are reported for F-ViT.
test_evaluator = dict(
    _delete_=True, type='VOCMetric', metric='mAP', iou_thrs=[0.5, 0.75], eval_mode='11points'
)
