# COCO train2017 as unlabelled images, regions are large random boxes: what the Refiner learns on.
_base_ = './coco_regions_grid.py'

train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    dataset=dict(
        # Not stated in the paper: number and area from our pilot on real photos, ratio from
        # UniRefiner (arXiv 2605.19622), which takes 3 boxes of area .25-.5.
        region_sampler=dict(
            _delete_=True,
            type='RandomCropRegions',
            groups=[dict(num=4, area=(0.2, 0.5), ratio=(2 / 3, 3 / 2))],
        ),
    ),
)
