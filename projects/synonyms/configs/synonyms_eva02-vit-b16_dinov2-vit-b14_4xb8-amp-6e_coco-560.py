# Alignment with names at published size: 32 images a step, lr 2e-5, decay .1, 6 epochs, weight .05.
# Image size, crops and blend are not known: those of DeCLIP, on which it is built.
_base_ = [
    '../../../configs/_base_/models/region-alignment.py',
    '../../../configs/_base_/datasets/coco_regions_grid.py',
    '../../../configs/_base_/schedules/region-alignment_6e.py',
    '../../../configs/_base_/default_runtime.py',
]

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.synonyms.synonyms'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='SynonymAlignment',
    data_preprocessor={**_base_.model.data_preprocessor, 'image_size': 560, 'crop_size': 224},
    # The content of DeCLIP's last block.
    student=dict(
        type='RefinerCLIP',
        model='EVA02-B-16',
        pretrained='merged2b_s8b_b131k',
        dense_mode='query-query-only',
    ),
    rla=dict(type='CLIPSelfLoss', loss_weight=1.0),
    synonym=dict(type='SynonymLoss', loss_weight=0.05, top_k=7, share=0.5),
    texts=dict(
        # The names that `evaluate synonyms` tests with, a second time: give a file of other ones
        # (lines "name; synonym; ...") where the test is to be a fair one.
        names='refineclip/assets/vocabularies/ov-coco_synonyms.txt',
        model='EVA02-B-16',
        pretrained='merged2b_s8b_b131k',
        templates='photo',
        # One text of all names, as in SynCLIP's corpus.
        join='text',
    ),
    vision_model=dict(
        type='RefinerCLIP',
        model='timm/vit_base_patch14_dinov2',
        pretrained='lvd142m',
        dense_mode='plain',
    ),
)
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=2e-5))
auto_scale_lr = dict(base_batch_size=32)
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=0.7)]
