# Alignment with names on the drawn world: steps, images, regions and optimiser are the suite's.
_base_ = ['../../../configs/microworld/_base_/region-alignment_microworld.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.synonyms.synonyms'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='SynonymAlignment',
    data_preprocessor=_base_.data_preprocessor,
    student=_base_.encoder,
    rla=dict(type='CLIPSelfLoss', loss_weight=1.0),
    synonym=dict(type='SynonymLoss', loss_weight=0.05, top_k=7, share=0.5),
    # Names that a detector trains on; the held out ones stay unseen. The world has no synonyms: a
    # class can be called with its article and without.
    texts=dict(
        names=dict(split='microworld', part='base'),
        model='microworld-clip',
        pretrained='shipped',
        templates=['a {}'],
        rich_templates=['a {}', '{}'],
    ),
    # No vision model has seen the drawn world: the frozen CLIP's own map, a deviation.
    vision_model=_base_.encoder,
)
# The suite's rate times two: 2e-5 is published, twice that of CLIPSelf.
optim_wrapper = dict(optimizer=dict(lr=6e-4))
