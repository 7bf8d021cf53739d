# Objects365 v1's 365 classes as a test of a detector that was trained on LVIS. Layout: mmdet's.
_base_ = './transfer-coco_detection.py'
data_root = 'data/Objects365/Obj365_v1/'

test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='Objects365V1Dataset',
        data_root=data_root,
        ann_file='annotations/objects365_val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    )
)
test_evaluator = dict(
    ann_file=data_root + 'annotations/objects365_val.json',
    # The published train and val files list their categories in different orders (mmdet).
    sort_categories=True,
)
