# OpenAI CLIP ViT-B/16 as it is; the name says quick GELU, which refined files cannot. A refined
# one: `mim test CONFIG refined_*.pth`, or rows of `python -m refineclip evaluate segmentation`.
model = dict(
    type='TextSegmentor',
    # 'value' is the map that CLIPSelf and this project refine; 'self-self' is SCLIP's.
    backbone=dict(
        type='RefinerCLIP', model='ViT-B-16-quickgelu', pretrained='openai', dense_mode='value'
    ),
    text=dict(
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        # OpenAI's 80 prompts, which SCLIP (arXiv 2312.01597, released code) and others use.
        templates='imagenet',
        cache_dir='work_dirs/text_embeddings',
    ),
    # Every synonym by itself, as SCLIP's lists of names are read.
    synonyms='max',
    # For vocabularies with a class 'background': our list of common stuff. Other methods each have
    # their own; words that are classes themselves drop out.
    background_names=[
        *(
            'sky',
            'cloud',
            'wall',
            'ceiling',
            'floor',
            'window',
            'door',
            'curtain',
            'shelf',
            'stairs',
        ),
        *(
            'building',
            'fence',
            'road',
            'sidewalk',
            'railroad',
            'platform',
            'ground',
            'sand',
            'snow',
        ),
        *('grass', 'tree', 'flower', 'mountain', 'rock', 'water', 'river', 'sea', 'wood', 'cloth'),
    ],
    # SCLIP's released configs: 0.1 for the three sets with background, 0 otherwise, which a
    # vocabulary without background amounts to.
    prob_thd=0.1,
    # Not stated in the paper; default of SCLIP's released code. Its three sets with background have
    # their own: benchmark_thresholds in _base_/text-seg_runtime.py.
    logit_scale=40.0,
    # Pixels, SCLIP's; 336/112 and mode='whole' are common too.
    test_cfg=dict(mode='slide', crop_size=224, stride=112),
)
