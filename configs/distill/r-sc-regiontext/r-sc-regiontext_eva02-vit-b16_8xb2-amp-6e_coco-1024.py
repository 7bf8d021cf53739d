# Alignment with nouns in place of crops. That the paper's RegionText is this loss, the RegionCLIP
# baseline of CLIPSelf's published code, is inferred.
_base_ = [
    '../../_base_/models/region-alignment_eva02-vit-b16.py',
    '../../_base_/datasets/coco_regions_nouns.py',
    '../../_base_/schedules/region-alignment_6e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    rla=dict(
        _delete_=True,
        type='RegionTextLoss',
        # One row per category of the proposals file, in its order.
        text_embeddings='data/coco/embeddings/nouns_eva02-vit-b16.safetensors',
        # As that baseline: at most 100 nouns a step.
        num_sampled=100,
    )
)
# alpha of CLIPSelf's B/16 script.
custom_hooks = [*_base_.custom_hooks, dict(type='WeightEnsembleHook', alpha=0.7)]
