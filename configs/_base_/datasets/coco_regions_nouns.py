# Proposals that carry a noun each: a file in the COCO annotations layout whose `categories` are the
# nouns, in the order of the rows of the text embeddings.
_base_ = './coco_regions_proposals.py'

train_dataloader = dict(
    dataset=dict(
        region_sampler=dict(
            proposal_file='data/coco/proposals/train2017_nouns.json',
            # CLIPSelf's published RegionCLIP baseline: the first 20 boxes of the file, of any area.
            shuffle=False,
            area_px=None,
            with_labels=True,
        )
    )
)
