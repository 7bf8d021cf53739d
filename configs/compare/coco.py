# Suite `coco` of `python -m refineclip compare`: the recipes at published size. It is planned, not
# run: hours on GPUs from counted FLOPs, see `python -m refineclip plan`.
kind = 'coco'
title = 'COCO train2017, EVA-02-CLIP B/16'

images = 118287
gpu = 'a100'
# Share of the peak that CLIPSelf's published runs reach with a B/16.
mfu = 0.17
baseline = 'RLA'

C = 'configs/distill/r-sc-clipself/'
METHOD = 'arXiv 2504.02328'
methods = [
    dict(
        name='Refiner',
        text='stage 1',
        config='configs/refiner/clip/refiner_eva02-vit-b16_1xb16-amp-1e_coco-448.py',
        part='encoder',
        source=METHOD,
    ),
    dict(
        name='RLA',
        text='alignment of regions with their crops: CLIPSelf',
        config=C + 'rla_eva02-vit-b16_8xb2-amp-6e_coco-1024.py',
        source='arXiv 2310.01403',
    ),
    dict(
        name='SC-RLA',
        text='and SCD against the frozen CLIP',
        config=C + 'sc-rla_eva02-vit-b16_8xb2-amp-6e_coco-1024.py',
        source=METHOD,
    ),
    dict(
        name='R-SC-RLA',
        text='and SCD against the Refiner',
        config=C + 'r-sc-clipself_eva02-vit-b16_8xb2-amp-6e_coco-1024.py',
        source=METHOD,
    ),
    # Rivals, projects/.
    dict(
        name='DeCLIP',
        text='content against crops, context against DINOv2 B/14; weight of the paper',
        config='projects/declip/configs/declip_eva02-vit-b16_dinov2-vit-b14_1xb16-amp-6e_coco-560.py',
        source='arXiv 2505.04410',
    ),
    dict(
        name='DeCLIP, script',
        text='the same with the weight of the published script',
        config='projects/declip/configs/'
        'declip-script_eva02-vit-b16_dinov2-vit-b14_1xb16-amp-6e_coco-560.py',
        source='arXiv 2505.04410',
    ),
    dict(
        name='DenseRC',
        text='values of three blocks gated per head; correlations of DINOv2 B/14',
        config='projects/denserc/configs/denserc_eva02-vit-b16_dinov2-vit-b14_1xb16-amp-6e_coco-1024.py',
        source='CVPR 2026',
    ),
    dict(
        name='Synonyms',
        text='alignment, and maps of a label held to those of all its names',
        config='projects/synonyms/configs/synonyms_eva02-vit-b16_dinov2-vit-b14_4xb8-amp-6e_coco-560.py',
        source='arXiv 2607.11008',
    ),
]
