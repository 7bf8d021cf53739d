# Suite `photos` of `python -m refineclip compare`: a real ViT-S/14 on 128 photos of COCO, about as
# docs/real_pilot.md. docs/compare.md explains every key.
kind = 'photos'
title = 'photos'

# 48 steps of 8 photos, those of configs/pilot; --length stretches them.
passes = 384
batch_size = 8
files = dict(
    images='data/coco',
    image_list='data/coco/pilot_images.txt',
    weights='weights/vit_small_patch14_dinov2.safetensors',
    text_head='work_dirs/text_head.safetensors',
    cache='work_dirs/cache',
    refiner='work_dirs/refiner.pth',
    names='text_embeddings/openai-vit-b16_coco-80.npy',
    more_names='text_embeddings/openai-vit-b16_lvis-1203.npy',
)
# What --data holds: the first photos of these folders, without labels, ...
photos = dict(train2017=100, unlabeled2017=28)
# ... photos whose labels fit the head that reads the tower by words, ...
head = dict(split='train2017', images=100)
# ... photos to measure on, weights, and the embeddings of the class names.
coco = 'coco'
val = 'val2017'
weights = 'weights/vit_small_patch14_dinov2*'
words = 'text_embeddings/openai-vit-b16_coco-panoptic-133.npy'
# ... and what single methods read besides, by their role in files.
inputs = dict(
    names='text_embeddings/openai-vit-b16_coco-80.npy',
    more_names='text_embeddings/openai-vit-b16_lvis-1203.npy',
)
# Boxes of at least 1 % of the photo.
min_area = 0.01

# The method whose end the others read where their configs name files['refiner'].
refiner = 'Refiner'
frozen = 'configs/pilot/rla_dinov2-vit-s14_coco-pilot.py'
baseline = 'RLA'
# Who the rivals are rivals of.
ours = 'R-SC-RLA'
# Of one run on one core, for the time to go only.
seconds = dict(train=250.0, measure=90.0)
axes = ('boxes_top1', 'auc')
columns = dict(
    boxes_top1='boxes',
    boxes_things_top1='things',
    boxes_stuff_top1='stuff',
    masks_top1='masks',
    crops_top1='crops',
    words_miou='words alone',
    auc='auc',
    imk='imk',
    gk='gk',
    knn='knn',
    ridge='ridge',
)

METHOD = 'arXiv 2504.02328'
methods = [
    # No training.
    dict(name='frozen', text='the tower as it is', source='-'),
    dict(name='frozen, block 10', text='the map of its tenth block of twelve', block=9, source='-'),
    dict(
        name='frozen, value',
        text="CLIPSelf's dense map: values instead of attention in the last block",
        encoder=dict(dense_mode='value'),
        source='arXiv 2310.01403',
    ),
    dict(
        name='SCLIP',
        text='query-query and key-key attention in the last block',
        encoder=dict(dense_mode='self-self'),
        source='arXiv 2312.01597',
    ),
    dict(
        name='ClearCLIP',
        text='query-query attention, no residual, no feed-forward',
        encoder=dict(dense_mode='query-query-only'),
        source='arXiv 2407.12442',
    ),
    dict(name='frozen, shifts', text='mean map of four shifts of the photo', shifts=2, source='-'),
    # The family.
    dict(
        name='Refiner',
        text='stage 1 alone: no text reads it better than the tower',
        config='configs/pilot/refiner_dinov2-vit-s14_coco-pilot.py',
        part='encoder',
        source=METHOD,
        # Trains no student: of its own length, and within nobody's budget.
        budget=False,
    ),
    dict(
        name='RLA',
        text='alignment of regions with their crops: CLIPSelf',
        config='configs/pilot/rla_dinov2-vit-s14_coco-pilot.py',
        source='arXiv 2310.01403',
    ),
    dict(
        name='RLA, alpha .5',
        text='its weights half and half with the frozen',
        blend=dict(of='RLA', alpha=0.5),
        source='-',
    ),
    dict(
        name='SC-RLA',
        text='and SCD against the frozen tower',
        config='configs/pilot/sc-rla_dinov2-vit-s14_coco-pilot.py',
        source=METHOD,
    ),
    dict(
        name='R-SC-RLA',
        text='and SCD against the Refiner',
        config='configs/pilot/r-sc-rla_dinov2-vit-s14_coco-pilot.py',
        source=METHOD,
    ),
    # Rivals, projects/.
    dict(
        name='DeCLIP',
        text='content against crops, context against correlations; weight of the paper',
        config='projects/declip/configs/declip_dinov2-vit-s14_coco-pilot.py',
        source='arXiv 2505.04410',
    ),
    dict(
        name='DeCLIP, script',
        text='the same with the weight of the published script',
        config='projects/declip/configs/declip-script_dinov2-vit-s14_coco-pilot.py',
        source='arXiv 2505.04410',
    ),
    dict(
        name='UniRefiner',
        text='a border of registers, low-rank updates, contrast with a frozen teacher',
        config='projects/unirefiner/configs/unirefiner_dinov2-vit-s14_coco-pilot.py',
        source='arXiv 2605.19622',
    ),
    dict(
        name='DenseRC',
        text='values of three blocks gated per head; crops and correlations on one map',
        config='projects/denserc/configs/denserc_dinov2-vit-s14_coco-pilot.py',
        source='CVPR 2026',
    ),
    dict(
        name='DenseRC, residual',
        text="the same with the last block's residual and feed-forward",
        config='projects/denserc/configs/denserc-residual_dinov2-vit-s14_coco-pilot.py',
        source='-',
    ),
    dict(
        name='Synonyms',
        text='alignment held to all names of a class; reads the text head while it learns',
        config='projects/synonyms/configs/synonyms_dinov2-vit-s14_coco-pilot.py',
        source='arXiv 2607.11008',
    ),
    dict(
        name='SPAR',
        text='a sliding-window teacher regressed in one pass; the last two blocks',
        config='projects/single_pass/configs/single-pass_dinov2-vit-s14_coco-pilot.py',
        source='arXiv 2604.02252',
    ),
    dict(
        name='SPAR, all blocks',
        text='the same with every block',
        config='projects/single_pass/configs/single-pass-all_dinov2-vit-s14_coco-pilot.py',
        source='arXiv 2604.02252',
    ),
]
