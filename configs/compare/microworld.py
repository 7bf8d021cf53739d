# Suite `microworld` of `python -m refineclip compare`: drawn images, minutes a method on one core.
# docs/compare.md explains every key. Nothing here says anything about real images.
kind = 'microworld'
title = 'microworld'

# 300 steps of 8 images, those of configs/microworld; every method gets as many.
passes = 2400
batch_size = 8
# Placeholder in a method's config -> what the suite puts there.
files = dict(images='data/microworld/train', refiner='work_dirs/refiner_microworld/iter_200.pth')
# The method whose end the others read where their configs name files['refiner'].
refiner = 'Refiner'
frozen = 'configs/microworld/rla_microworld.py'
baseline = 'RLA'
# Who the rivals are rivals of.
ours = 'R-SC-RLA'
# Of one run on one core, for the time to go only.
seconds = dict(train=60.0, measure=45.0)
# Region accuracy and spatial quality, whose front is drawn; the demo's two.
axes = ('boxes_class_top1', 'gk')
columns = dict(
    boxes_class_top1='boxes',
    masks_class_top1='masks',
    crops_class_top1='crops',
    words_miou='words alone',
    auc='auc',
    imk='imk',
    gk='gk',
    knn='knn',
    ridge='ridge',
    image_to_text_recall5='I>T R@5',
    text_to_image_recall5='T>I R@5',
)

METHOD = 'arXiv 2504.02328'
methods = [
    # No training.
    dict(name='frozen', text="the CLIP as it is, CLIPSelf's dense map", source='-'),
    dict(
        name='frozen, plain',
        text='its last block untouched',
        encoder=dict(dense_mode='plain'),
        source='-',
    ),
    dict(
        name='frozen, block before', text='the map of the last block but one', block=-2, source='-'
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
    dict(name='frozen, shifts', text='mean map of four shifts of the image', shifts=2, source='-'),
    # The family.
    dict(
        name='Refiner',
        text='stage 1 alone: no text reads it better than CLIP',
        config='configs/microworld/refiner_microworld.py',
        part='encoder',
        source=METHOD,
        # Trains no student: of its own length, and within nobody's budget.
        budget=False,
    ),
    dict(
        name='RLA',
        text='alignment of regions with their crops: CLIPSelf',
        config='configs/microworld/rla_microworld.py',
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
        text='and SCD against the frozen CLIP',
        config='configs/microworld/sc-rla_microworld.py',
        source=METHOD,
    ),
    dict(
        name='R-SC-RLA',
        text='and SCD against the Refiner',
        config='configs/microworld/r-sc-rla_microworld.py',
        source=METHOD,
    ),
    # Rivals, projects/.
    dict(
        name='DeCLIP',
        text='content against crops, context against correlations; weight of the paper',
        config='projects/declip/configs/declip_microworld.py',
        source='arXiv 2505.04410',
    ),
    dict(
        name='DeCLIP, script',
        text='the same with the weight of the published script',
        config='projects/declip/configs/declip-script_microworld.py',
        source='arXiv 2505.04410',
    ),
    dict(
        name='UniRefiner',
        text='a border of registers, low-rank updates, contrast with a frozen teacher',
        config='projects/unirefiner/configs/unirefiner_microworld.py',
        source='arXiv 2605.19622',
    ),
    dict(
        name='DenseRC',
        text='values of three blocks gated per head; crops and correlations on one map',
        config='projects/denserc/configs/denserc_microworld.py',
        source='CVPR 2026',
    ),
    dict(
        name='DenseRC, residual',
        text="the same with the last block's residual and feed-forward",
        config='projects/denserc/configs/denserc-residual_microworld.py',
        source='-',
    ),
    dict(
        name='Synonyms',
        text='alignment, and maps of a label held to those of all its names',
        config='projects/synonyms/configs/synonyms_microworld.py',
        source='arXiv 2607.11008',
    ),
    dict(
        name='SPAR',
        text='a sliding-window teacher regressed in one pass; the last two blocks',
        config='projects/single_pass/configs/single-pass_microworld.py',
        source='arXiv 2604.02252',
    ),
    dict(
        name='SPAR, all blocks',
        text='the same with every block',
        config='projects/single_pass/configs/single-pass-all_microworld.py',
        source='arXiv 2604.02252',
    ),
]
