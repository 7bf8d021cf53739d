# COCO train2017 as unlabelled images, regions are class-agnostic proposals. CLIPSelf's proposals
# were never published with a recipe: tools/make_proposals.py makes such a file.
# The model needs data_preprocessor.crop_enlarge=1.5 with it.
_base_ = './coco_regions_grid.py'

train_dataloader = dict(
    dataset=dict(
        region_sampler=dict(
            _delete_=True,
            type='ProposalRegions',
            proposal_file='data/coco/proposals/train2017_proposals.json',
            # CLIPSelf's published code: 20 random boxes, of which those of 8^2 to 1024^2 px stay.
            max_regions=20,
            area_px=(8**2, 1024**2),
        ),
    ),
)
