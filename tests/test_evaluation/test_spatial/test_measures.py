from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from refineclip.evaluation.spatial import measures
from refineclip.evaluation.spatial.clusters import _matched_iou

ONE_HOT = torch.eye(4)


def scene(images: int, noise: float, tokens: int = 40) -> tuple[list[Tensor], list[np.ndarray]]:
    """Tokens around one direction per class; classes 0..3 in every image."""
    labels = [np.arange(tokens) % 4 for _ in range(images)]
    features = [
        normalize(ONE_HOT[torch.from_numpy(label)] + noise * torch.randn(tokens, 4), dim=1)
        for label in labels
    ]
    return features, labels


def angles(*degrees: float) -> Tensor:
    radians = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_affinity_auc_by_hand() -> None:
    # Same: (0, 40) at 40 degrees. Different: (0, 30) at 30, (40, 30) at 10 degrees: both closer.
    features, segments = [angles(0, 40, 30)], [np.array([1, 1, 2])]
    assert measures.affinity_auc(features, segments).value == 0
    # Same: 40. Different: 50 and 10, one of two is farther.
    assert measures.affinity_auc([angles(0, 40, 50)], segments).value == 0.5
    assert measures.affinity_auc([angles(0, 40, 90)], segments).value == 1


def test_affinity_auc_ignores_unlabelled_tokens_and_single_segments() -> None:
    scores = measures.affinity_auc(
        [angles(0, 40, 90, 41), angles(0, 10)], [np.array([1, 1, 2, 0]), np.array([1, 1])]
    )
    np.testing.assert_allclose(scores.per_image, [1, np.nan])
    assert scores.value == 1


def test_affinity_auc_of_noise_is_a_half() -> None:
    generator = np.random.default_rng(0)
    features = [normalize(torch.randn(100, 16), dim=1) for _ in range(20)]
    segments = [generator.integers(1, 4, 100) for _ in range(20)]
    assert measures.affinity_auc(features, segments).value == pytest.approx(0.5, abs=0.02)


def test_hungarian_matching_by_hand() -> None:
    # Rows are clusters, columns classes: IoU 3/5 and 4/6 on the matched pairs.
    cluster_of, iou = _matched_iou(np.array([[1.0, 4.0], [3.0, 1.0]]))
    assert cluster_of.tolist() == [1, 0]
    np.testing.assert_allclose(iou, [3 / 5, 4 / 6])


def test_per_image_kmeans() -> None:
    features, labels = scene(3, noise=0.05)
    segments = [label + 1 for label in labels]
    assert measures.per_image_kmeans_miou(features, segments).value == pytest.approx(1)
    shuffled = [np.random.default_rng(0).permutation(s) for s in segments]
    assert measures.per_image_kmeans_miou(features, shuffled).value < 0.5
    # A lone segment is not a segmentation.
    lone = [np.ones(40, int), segments[1]]
    assert np.isnan(measures.per_image_kmeans_miou(features[:2], lone).per_image[0])
    with pytest.raises(ValueError, match='imk: expected an image whose tokens show two'):
        measures.per_image_kmeans_miou(features[:1], lone[:1])


def test_per_image_kmeans_counts_a_merged_segment() -> None:
    # Two segments of one look and a third: k = 3 cannot tell the first two apart.
    features = [normalize(ONE_HOT[torch.tensor([0] * 10 + [0] * 10 + [1] * 10)], dim=1)]
    segments = [np.repeat([1, 2, 3], 10)]
    with pytest.warns(UserWarning, match='distinct clusters'):
        score = measures.per_image_kmeans_miou(features, segments).value
    assert score == pytest.approx((0.5 + 0 + 1) / 3)


def test_dataset_kmeans_needs_one_meaning_across_images() -> None:
    features, labels = scene(6, noise=0.02)
    scores = measures.dataset_kmeans_miou(features, labels, 4, num_inits=8)
    # A lone start may merge two clusters, so the best of eight is held against the truth.
    iou = (scores.numerator.sum(0) / scores.denominator.sum(0)).reshape(8, 4)
    assert iou.mean(1).max() == 1
    assert scores.value == pytest.approx(iou.mean())
    moved = [f.roll(i, dims=1) for i, f in enumerate(features)]  # clusters swap between images
    assert measures.dataset_kmeans_miou(moved, labels, 4).value < 0.6


def test_dataset_kmeans_averages_over_classes_that_occur() -> None:
    features = [ONE_HOT[[0, 0, 1, 1]], ONE_HOT[[0, 1, 1, 1]]]
    labels = [np.array([0, 0, 3, 3]), np.array([0, 3, 3, -1])]
    scores = measures.dataset_kmeans_miou(features, labels, 4, num_inits=1)
    # Two clusters are perfect; the two absent classes are not in the mean.
    assert scores.denominator.sum(0).tolist() == [3, 0, 0, 4]
    assert scores.value == 1


def test_knn_takes_other_images_only() -> None:
    # Within each image the neighbours are right; across images the directions are swapped.
    features = [ONE_HOT[[0] * 5 + [1] * 5], ONE_HOT[[1] * 5 + [0] * 5]]
    labels = [np.repeat([0, 1], 5)] * 2
    assert measures.knn_accuracy(features, labels, num_neighbors=3).value == 0
    same = measures.knn_accuracy([features[0]] * 2, labels, num_neighbors=3)
    assert same.value == 1
    np.testing.assert_allclose(same.denominator, [10, 10])


def test_knn_skips_unlabelled_tokens_and_samples() -> None:
    features, labels = scene(4, noise=0.1)
    labels[0] = np.where(labels[0] == 2, -1, labels[0])
    scores = measures.knn_accuracy(features, labels, num_neighbors=5, max_tokens=100)
    assert scores.denominator.sum() == 100
    assert scores.value > 0.95
    assert measures.knn_accuracy(features, labels).denominator.sum() == 150


def test_ridge_generalises_over_images() -> None:
    features, labels = scene(10, noise=0.2)
    assert measures.ridge_accuracy(features, labels).value > 0.9
    # What only names the image helps no other image.
    lone = [normalize(torch.randn(1, 16).repeat(10, 1), dim=1) for _ in range(10)]
    classes = [np.full(10, index % 2) for index in np.random.default_rng(0).permutation(10)]
    assert measures.ridge_accuracy(lone, classes).value < 0.9


def test_ridge_matches_scikit_learn() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    features, labels = scene(5, noise=0.9)
    found = measures.ridge_accuracy(features, labels)
    x, y = torch.cat(features).numpy(), np.concatenate(labels)
    fold = np.repeat(np.arange(5), 40)
    for index in range(5):
        scaler = StandardScaler().fit(x[fold != index])
        model = Ridge(alpha=1.0).fit(
            scaler.transform(x[fold != index]), np.eye(4)[y[fold != index]]
        )
        guess = model.predict(scaler.transform(x[fold == index])).argmax(1)
        assert found.per_image[index] == pytest.approx((guess == y[fold == index]).mean(), abs=0.03)


@pytest.mark.parametrize('name', ['affinity_auc', 'knn_accuracy', 'ridge_accuracy'])
def test_shapes_are_checked(name: str) -> None:
    measure = getattr(measures, name)
    with pytest.raises(ValueError, match='one label array per image'):
        measure([torch.ones(3, 2)], [np.zeros(3, dtype=int)] * 2)
    with pytest.raises(ValueError, match=r'\(3, 2\) and 4 for image 0'):
        measure([torch.ones(3, 2)] * 2, [np.zeros(4, dtype=int)] * 2)


def test_queries_without_a_voter_do_not_count() -> None:
    # A bank of one token, which by seed 0 is of the query's image and by seed 3 of the other.
    features, labels = scene(2, noise=0.0, tokens=4)
    assert measures.knn_accuracy(features, labels, max_tokens=1).denominator.sum() == 0
    assert measures.knn_accuracy(features, labels, max_tokens=1, seed=3).denominator.sum() == 1


def test_folds_are_of_images_that_have_labels() -> None:
    # Without labels in between, images 0 and 5 would fall into one fold of five.
    features, labels = scene(2, noise=0.1)
    empty = np.full(40, -1)
    spread = [features[0], *[features[0]] * 4, features[1]]
    truth = [labels[0], *[empty] * 4, labels[1]]
    found = measures.ridge_accuracy(spread, truth)
    assert found.value == measures.ridge_accuracy(features, labels).value
    assert found.value > 0.9


@pytest.mark.parametrize(
    'name',
    [
        'affinity_auc',
        'per_image_kmeans_miou',
        'dataset_kmeans_miou',
        'knn_accuracy',
        'ridge_accuracy',
    ],
)
def test_input_that_has_no_answer_is_a_sentence(name: str) -> None:
    extra = (4,) if name == 'dataset_kmeans_miou' else ()
    measure = getattr(measures, name)
    features, labels = scene(2, noise=0.1)
    broken = [features[0], features[1] / 0]
    with pytest.raises(ValueError, match='NaN or infinity in image 1'):
        measure(broken, labels, *extra)
    unlabelled = [np.full(40, -1)] * 2
    with pytest.raises(ValueError, match=r'expected (labelled tokens|an image whose)'):
        measure(features, unlabelled, *extra)
    with pytest.raises(ValueError, match=r'expected (labelled tokens|an image whose)'):
        measure([], [], *extra)
    if name in ('knn_accuracy', 'ridge_accuracy'):
        with pytest.raises(ValueError, match='in 2 or more images, got them in 1 of 1'):
            measure(features[:1], labels[:1])


def test_more_clusters_than_tokens_and_labels_beyond_the_clusters() -> None:
    features, labels = scene(2, noise=0.1, tokens=4)
    with pytest.raises(ValueError, match='got 8 tokens for 9 clusters'):
        measures.dataset_kmeans_miou(features, labels, 9)
    with pytest.raises(ValueError, match=r'labels in \[0, 3\), got 3'):
        measures.dataset_kmeans_miou(features, labels, 3)
