# A tower that was never trained with text, by a linear head into a text space:
#   python tools/fit_text_head.py --model timm/vit_small_patch14_dinov2 --pretrained WEIGHTS \
#       --data-root data/coco --text-embeddings coco-panoptic-133.npy \
#       --out work_dirs/text_head_crops.safetensors --mean-token-out work_dirs/text_head.safetensors
_base_ = ['../../_base_/datasets/seg-coco-panoptic.py', '../../_base_/text-seg_runtime.py']

model = dict(
    type='TextSegmentor',
    backbone=dict(
        type='RefinerCLIP',
        model='timm/vit_small_patch14_dinov2',
        pretrained='lvd142m',
        dense_mode='plain',
    ),
    # One row per category in the order of the sorted category ids.
    text=dict(text_embeddings='coco-panoptic-133.npy'),
    text_head='work_dirs/text_head.safetensors',
    test_cfg=dict(mode='slide', crop_size=224, stride=112),
)
