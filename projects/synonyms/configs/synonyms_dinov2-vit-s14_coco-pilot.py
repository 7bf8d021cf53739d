# Alignment with names on 128 photos: steps, images, regions and optimiser are those of the pilot.
# Its tower has no text tower: names of COCO, and what LVIS calls them, come as embeddings.
_base_ = ['../../../configs/pilot/_base_/stage2-pilot.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.synonyms.synonyms'],
    allow_failed_imports=False,
)
model = dict(
    _delete_=True,
    type='SynonymAlignment',
    data_preprocessor=_base_.data_preprocessor,
    student=_base_.model.student,
    rla=dict(type='CLIPSelfLoss', loss_weight=1.0),
    synonym=dict(type='SynonymLoss', loss_weight=0.05, top_k=7, share=0.5),
    texts=dict(
        gathered=dict(
            text_embeddings='text_embeddings/openai-vit-b16_coco-80.npy',
            names='coco',
            also=dict(text_embeddings='text_embeddings/openai-vit-b16_lvis-1203.npy', names='lvis'),
            synonyms='coco_in-words-of-lvis',
        )
    ),
    # The pilot's student is itself the vision model at hand: frozen, its own untouched map.
    vision_model=_base_.model.student,
    # Tokens are scored through it, with the map that was fitted on labelled crops: unlike in the
    # pilot's other configs, labels reach the student.
    text_head='work_dirs/text_head.safetensors',
    cache_dir='work_dirs/cache',
)
# The pilot's rate times two: 2e-5 is published, twice that of CLIPSelf.
optim_wrapper = dict(optimizer=dict(lr=1e-4))
