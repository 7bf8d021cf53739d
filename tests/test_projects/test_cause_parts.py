"""CAUSE, piece by piece: modularity, codebook, bank, contrast, classes, metric."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from projects.cause.cause.classes27 import (
    CITYSCAPES_27,
    COCO_STUFF_27,
    STUFF_27,
    THINGS_27,
    cityscapes_lookup,
    coco_stuff_lookup,
)
from projects.cause.cause.codebook import ConceptCodebook
from projects.cause.cause.concept_bank import ConceptBank, draw_per_concept
from projects.cause.cause.concept_loss import concept_contrastive_loss
from projects.cause.cause.hungarian_metric import (
    HungarianSegMetric,
    confusion,
    match_clusters,
    matched_scores,
)
from projects.cause.cause.modularity import (
    affinity,
    concept_agreement,
    modularity,
    modularity_loss,
)
from projects.cause.cause.segment_heads import CauseMLPHead, CauseTransformerHead


def two_triangles() -> torch.Tensor:
    """Two triangles joined by one edge: 7 edges, degrees 2 2 3 3 2 2."""
    weights = torch.zeros(6, 6, dtype=torch.float64)
    for a, b in [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (2, 3)]:
        weights[a, b] = weights[b, a] = 1
    return weights[None]


@pytest.mark.parametrize(
    ('clusters', 'expected'),
    [
        # Each triangle holds 6/14 of the ends and has degree 7: 2 * (6/14 - (7/14)^2).
        ([0, 0, 0, 1, 1, 1], 5 / 14),
        # One cluster: everything is as expected by chance.
        ([0, 0, 0, 0, 0, 0], 0.0),
        # Single nodes: only the chance term, -(4 * 2^2 + 2 * 3^2) / 14^2.
        ([0, 1, 2, 3, 4, 5], -34 / 196),
    ],
)
def test_modularity_by_hand(clusters: list[int], expected: float) -> None:
    ids = torch.tensor(clusters)
    same = (ids[:, None] == ids[None]).double()[None]
    assert modularity(two_triangles(), same).item() == pytest.approx(expected, abs=1e-12)


def test_modularity_of_a_graph_without_edges_is_zero() -> None:
    assert modularity(torch.zeros(1, 3, 3), torch.ones(1, 3, 3)).item() == 0


def test_affinity_cuts_negative_cosines() -> None:
    tokens = torch.tensor([[[2.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [1.0, 1.0]]])
    half = 0.5**0.5
    expected = [[1, 0, 0, half], [0, 1, 0, 0], [0, 0, 1, half], [half, 0, half, 1]]
    torch.testing.assert_close(affinity(tokens)[0], torch.tensor(expected))


def test_concept_agreement_by_hand() -> None:
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    agreement = concept_agreement(tokens, torch.eye(2), temperature=0.5)[0]
    half = 0.5**0.5
    expected = torch.tensor([[1, 0, half], [0, 1, half], [half, half, 1]]) / 0.5
    torch.testing.assert_close(agreement, expected.tanh())


def test_modularity_prefers_the_concepts_of_the_groups() -> None:
    tokens = torch.eye(4)[:2].repeat_interleave(5, 0)[None]
    # Concepts on the groups: two equal groups reach 1/2.
    right = modularity_loss(tokens, torch.eye(4)[:2])
    assert right.item() == pytest.approx(-0.5, abs=1e-6)
    # Both tokens see these concepts alike: one cluster, which explains nothing.
    wrong = modularity_loss(tokens, torch.tensor([[1.0, 1, 0, 0], [1.0, 1, 0.1, 0]]))
    assert wrong.item() == pytest.approx(0, abs=1e-6)


def test_modularity_loss_has_a_gradient_at_2048_random_concepts() -> None:
    tokens = torch.randn(2, 16, 32)
    concepts = torch.randn(2048, 32, requires_grad=True)
    modularity_loss(tokens, concepts).backward()
    assert concepts.grad is not None
    assert (concepts.grad.norm(dim=1) > 0).float().mean() > 0.9


def test_codebook_assigns_by_cosine() -> None:
    codebook = ConceptCodebook(3, 2)
    codebook.concepts.data = torch.tensor([[10.0, 0.0], [0.0, 0.1], [-1.0, -1.0]])
    tokens = torch.tensor([[[0.2, 0.1], [1.0, 5.0], [-3.0, -2.0]]])
    ids = codebook.assign(tokens)
    assert ids.tolist() == [[0, 1, 2]]
    torch.testing.assert_close(codebook.lookup(ids).norm(dim=-1), torch.ones(1, 3))
    similarity = codebook.similarity()
    torch.testing.assert_close(similarity.diagonal(), torch.ones(3))
    assert similarity[0, 1].item() == pytest.approx(0)
    assert similarity[0, 2].item() == pytest.approx(-(0.5**0.5))


def test_codebook_needs_two_concepts() -> None:
    with pytest.raises(ValueError, match='num_concepts: expected 2 or more, got 1'):
        ConceptCodebook(1, 4)


def test_draw_per_concept_limits_each_concept() -> None:
    ids = torch.tensor([7] * 10 + [3] * 2 + [5])
    kept = draw_per_concept(ids, 3)
    assert sorted(ids[kept].tolist()) == [3, 3, 5, 7, 7, 7]
    assert len(kept.unique()) == len(kept)
    assert set(draw_per_concept(ids, 3).tolist()) != set(draw_per_concept(ids, 3).tolist())


def test_bank_is_a_ring() -> None:
    bank = ConceptBank(size=4, embed_dims=1, max_per_concept=2)
    assert len(bank.content()[0]) == 0
    for step in range(3):
        bank.push(torch.full((5, 1), float(step)), torch.tensor([step, step, step, 9, 9]))
        features, ids = bank.content()
        assert sorted(ids.tolist()) == [step, step, 9, 9]
        assert features.unique().tolist() == [step]  # two of each concept: the ring is full
    bank.push(torch.full((1, 1), 8.0), torch.tensor([1]))
    assert sorted(bank.content()[1].tolist()) in ([1, 2, 2, 9], [1, 2, 9, 9])
    bank.push(torch.arange(9.0)[:, None], torch.arange(9))  # more than it holds
    assert len(bank.content()[1].unique()) == 4


def test_bank_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match='1 or more'):
        ConceptBank(size=0, embed_dims=1, max_per_concept=1)


def contrast(similarity: list[list[float]], anchors: torch.Tensor | None = None) -> torch.Tensor:
    """Loss of anchors against three candidates at cosines 1, 0 and -1 of the first anchor."""
    if anchors is None:
        anchors = torch.tensor([[2.0, 0.0]])
    candidates = torch.tensor([[1.0, 0.0], [0.0, 4.0], [-1.0, 0.0]])
    return concept_contrastive_loss(anchors, candidates, torch.tensor(similarity), 0.3, 0.1, 0.5)


def test_contrast_by_hand() -> None:
    e = np.exp
    # Positive: the first; negatives: the others. tau = .5.
    expected = -np.log(e(2) / (e(2) + e(0) + e(-2)))
    assert contrast([[0.9, 0.0, -0.5]]).item() == pytest.approx(expected, rel=1e-5)
    # The second is in between and does not count.
    expected = -np.log(e(2) / (e(2) + e(-2)))
    assert contrast([[0.9, 0.2, -0.5]]).item() == pytest.approx(expected, rel=1e-5)
    # Two positives are averaged.
    expected = np.mean([-np.log(e(2) / (e(2) + e(-2))), -np.log(e(0) / (e(0) + e(-2)))])
    assert contrast([[0.9, 0.3, -0.5]]).item() == pytest.approx(expected, rel=1e-5)


def test_contrast_leaves_out_anchors_that_say_nothing() -> None:
    one = contrast([[0.9, 0.0, -0.5]])
    anchors = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]], requires_grad=True)
    # The second anchor has no positive, the third no negative.
    three = contrast([[0.9, 0.0, -0.5], [0.0, 0.0, 0.0], [0.9, 0.9, 0.9]], anchors)
    torch.testing.assert_close(three, one)
    three.backward()
    assert anchors.grad is not None
    assert anchors.grad.isfinite().all()
    assert anchors.grad[1:].abs().max() == 0
    none = contrast([[0.2, 0.2, 0.2]], torch.ones(1, 2, requires_grad=True))
    assert none.item() == 0
    none.backward()  # still connected


@pytest.mark.parametrize('kind', [CauseTransformerHead, CauseMLPHead])
def test_heads_shape_and_gradient(kind: type) -> None:
    head = kind(in_channels=16, embed_dims=6)
    tokens = F.normalize(torch.randn(2, 9, 16), dim=-1)
    concepts = F.normalize(torch.randn(2, 9, 16), dim=-1)
    out = head(tokens, concepts)
    assert out.shape == (2, 9, 6)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head.parameters())
    # Both inputs matter.
    head.eval()
    assert not torch.allclose(head(tokens, concepts), head(tokens, concepts.flip(-1)))
    assert not torch.allclose(head(tokens, concepts), head(tokens.flip(-1), concepts))


def test_transformer_head_names_bad_heads() -> None:
    with pytest.raises(ValueError, match='num_heads: expected a divisor of the 10'):
        CauseTransformerHead(in_channels=10, num_heads=4)


def test_coco_stuff_is_12_things_and_15_stuff() -> None:
    assert (len(THINGS_27), len(STUFF_27), len(set(COCO_STUFF_27))) == (12, 15, 27)
    things = [i for ids in THINGS_27.values() for i in ids]
    stuff = [i for ids in STUFF_27.values() for i in ids]
    # COCO's 80 object ids lie in 1..90; COCO-Stuff adds 92..182 without a gap.
    assert len(things) == len(set(things)) == 80
    assert set(things) <= set(range(1, 91))
    assert sorted(stuff) == list(range(92, 183))
    table = coco_stuff_lookup()
    assert (table != 255).sum() == 171
    assert COCO_STUFF_27[table[0]] == 'person'  # pixel value = id - 1
    assert COCO_STUFF_27[table[156]] == 'sky'  # 157 sky-other
    assert table[255] == table[11] == table[90] == 255  # unlabelled; 12 and 91 were never used


def test_coco_stuff_table_agrees_with_coco(shared_data) -> None:
    from refineclip.datasets.coco_panoptic import CocoPanoptic

    dataset = CocoPanoptic(shared_data / 'coco', 'val2017')
    assert set(dataset.supercategories) == set(COCO_STUFF_27)
    ids = sorted(dataset._index_of_id)
    for index, category in enumerate(ids):
        if category <= 182:  # above are panoptic's merged classes
            mine = COCO_STUFF_27[coco_stuff_lookup()[category - 1]]
            assert mine == dataset.supercategories[dataset.class_to_super[index]]


def test_cityscapes_27_are_label_ids_7_to_33() -> None:
    assert len(set(CITYSCAPES_27)) == 27
    table = cityscapes_lookup()
    assert (table != 255).sum() == 27
    for label, name in {7: 'road', 11: 'building', 23: 'sky', 24: 'person', 33: 'bicycle'}.items():
        assert CITYSCAPES_27[table[label]] == name
    assert set(table[:7]) == {255}
    assert table[34] == 255


def test_confusion_and_scores_by_hand() -> None:
    labels = np.array([[0, 0, 0, 1], [1, 1, 255, 3]])
    clusters = np.array([[2, 2, 0, 0], [0, 0, 1, 1]])
    counts = confusion(labels, clusters, num_classes=4, num_clusters=4)
    assert counts.tolist() == [[1, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert match_clusters(counts)[[2, 0, 1]].tolist() == [0, 1, 3]
    iou, accuracy = matched_scores(counts)
    # class 0: 2 / (3 + 2 - 2); class 1: 3 / (3 + 4 - 3); class 2 absent; class 3: 1.
    np.testing.assert_allclose(iou, [2 / 3, 3 / 4, np.nan, 1])
    assert accuracy == pytest.approx(6 / 7)


def test_matching_is_the_best_of_all() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (6, 6))
    rows, columns = linear_sum_assignment(-counts)
    assert (match_clusters(counts)[columns] == rows).all()
    from itertools import permutations

    best = max(sum(counts[p[k], k] for k in range(6)) for p in permutations(range(6)))
    assert matched_scores(counts)[1] == pytest.approx(best / counts.sum())


def test_more_clusters_than_classes() -> None:
    counts = np.array([[5, 3, 0], [0, 0, 4]])
    assert match_clusters(counts).tolist() == [0, -1, 1]
    iou, accuracy = matched_scores(counts)
    np.testing.assert_allclose(iou, [5 / 8, 1])  # the spare cluster's pixels are simply wrong
    assert accuracy == pytest.approx(9 / 12)


def metric_of(labels: np.ndarray, clusters: np.ndarray, num_classes: int = 3) -> dict[str, float]:
    metric = HungarianSegMetric(num_classes=num_classes)
    metric.dataset_meta = {}
    for truth, found in zip(labels, clusters, strict=True):
        metric.process(
            {'labels': torch.from_numpy(truth)[None]}, [{'clusters': torch.from_numpy(found)}]
        )
    return metric.evaluate(len(labels))


def test_metric_matches_over_the_whole_data_set() -> None:
    labels = np.array([[[0, 0]], [[1, 1]]])
    # Each image alone could be matched perfectly; together cluster 0 is one class only.
    scores = metric_of(labels, np.zeros_like(labels))
    assert scores == {'cause/mIoU': 25.0, 'cause/pAcc': 50.0, 'cause/classes': 2.0}
    renamed = metric_of(labels, 2 - labels)
    assert renamed['cause/mIoU'] == renamed['cause/pAcc'] == 100


def test_metric_errors_are_sentences() -> None:
    with pytest.raises(ValueError, match='expected labelled pixels, got none'):
        metric_of(np.full((1, 2, 2), 255), np.zeros((1, 2, 2), dtype=int))
    with pytest.raises(ValueError, match='with_labels=True'):
        HungarianSegMetric().process({}, [])
    with pytest.raises(ValueError, match='set num_clusters of the metric'):
        confusion(np.zeros((2, 2), int), np.full((2, 2), 5), 3, 3)
    with pytest.raises(ValueError, match='one shape'):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), 3, 3)
