# COCO-Stuff-27, batches of 16 crops of 320 px, five crops per training image (CAUSE's published
# defaults).
data_root = 'data/coco/'
image_size = 320

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CocoStuff27',
        data_root=data_root,
        split='train2017',
        image_size=image_size,
        crop='five',
        # Published numbers are on the curated list of PiCIE, one name per line.
        ann_file=None,
    ),
)
