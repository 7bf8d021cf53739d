# COCO train2017 as unlabelled images, regions are cells of a random grid.
data_root = 'data/coco/'

train_dataloader = dict(
    # Images per process; 8 x 2 in CLIPSelf's scripts.
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='collate_regions'),
    dataset=dict(
        type='RegionImageFolder',
        data_root=data_root + 'train2017/',
        # CLIPSelf's published code: 24 grid shapes of up to 6 x 6, at most 20 cells.
        region_sampler=dict(type='GridRegions', max_split=6, max_regions=20),
    ),
)
