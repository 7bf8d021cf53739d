# COCO train2017 as unlabelled images, regions are large random boxes: what the Refiner learns on.
data_root = 'data/coco/'

train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='collate_regions'),
    dataset=dict(
        type='RegionImageFolder',
        data_root=data_root + 'train2017/',
        # Not stated in the paper: number and area from our pilot on real photos, ratio from
        # UniRefiner (arXiv 2605.19622), which takes 3 boxes of area .25-.5.
        region_sampler=dict(
            type='RandomCropRegions',
            groups=[dict(num=4, area=(0.2, 0.5), ratio=(2 / 3, 3 / 2))],
        ),
    ),
)
