# COCO train2017 as unlabelled images, regions are class-agnostic proposals. CLIPSelf's proposals
# were never published with a recipe: tools/make_proposals.py makes such a file.
# The model needs data_preprocessor.crop_enlarge=1.5 with it.
data_root = 'data/coco/'

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='collate_regions'),
    dataset=dict(
        type='RegionImageFolder',
        data_root=data_root + 'train2017/',
        region_sampler=dict(
            type='ProposalRegions',
            proposal_file=data_root + 'proposals/train2017_proposals.json',
            # CLIPSelf's published code: at most 20 boxes of 8^2 to 1024^2 square pixels.
            max_regions=20,
            area_px=(8**2, 1024**2),
        ),
    ),
)
