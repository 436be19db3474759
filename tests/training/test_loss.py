import jax.numpy as jnp
import numpy as np
import pytest

from mg_jax.training.loss import batch_metrics

WEIGHTS = (0.5, 2.0, 1.0)


def log_softmax(logits_BK):
    return logits_BK - np.log(np.exp(logits_BK).sum(1, keepdims=True))


@pytest.fixture
def logits_BK():
    return np.random.default_rng(0).normal(size=(4, 3))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_label_is_smoothed_and_weighted(logits_BK, smoothing, weights):
    label_B = np.array([0, 2, 1, 1])
    expected = 0.0
    for log_p_K, label in zip(log_softmax(logits_BK), label_B, strict=True):
        for k in range(3):
            target = (1 - smoothing) * (k == label) + smoothing / 3
            expected -= target * log_p_K[k] * (weights or (1, 1, 1))[k] / 4
    metrics = batch_metrics(jnp.float32(logits_BK), jnp.int32(label_B), smoothing, weights)
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-6)
    assert float(metrics["top1"]) == np.mean(logits_BK.argmax(1) == label_B)


def test_weights_and_smoothing_are_those_of_pytorch(logits_BK, torch):
    label_B = np.array([0, 2, 1, 1])
    shares = torch.nn.functional.one_hot(torch.tensor(label_B), 3).double()
    for smoothing, weights in ((0.0, WEIGHTS), (0.2, None)):
        loss = torch.nn.CrossEntropyLoss(
            weight=None if weights is None else torch.tensor(weights).double(),
            label_smoothing=smoothing,
        )
        expected = loss(torch.tensor(logits_BK), shares).item()  # of shares it takes the plain mean
        found = batch_metrics(jnp.float32(logits_BK), jnp.int32(label_B), smoothing, weights)
        assert float(found["loss"]) == pytest.approx(expected, rel=1e-6)


def test_mixed_labels_count_by_their_shares(logits_BK):
    share_BK = np.array([[0.7, 0.3, 0], [0, 1, 0], [0.4, 0, 0.6], [0, 0.5, 0.5]])
    metrics = batch_metrics(jnp.float32(logits_BK), jnp.float32(share_BK))
    expected = -np.mean((share_BK * log_softmax(logits_BK)).sum(1))
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-6)
    assert float(metrics["top1"]) == np.mean(logits_BK.argmax(1) == [0, 1, 2, 1])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_any_number_of_labels_is_smoothed_towards_one_half(logits_BK, smoothing, weights):
    label_BK = np.random.default_rng(1).integers(0, 2, (4, 3))
    target_BK = (1 - smoothing) * label_BK + smoothing / 2
    p_BK = 1 / (1 + np.exp(-logits_BK))
    terms_BK = target_BK * np.log(p_BK) + (1 - target_BK) * np.log(1 - p_BK)
    metrics = batch_metrics(jnp.float32(logits_BK), jnp.uint8(label_BK), smoothing, weights)
    expected = -np.mean(terms_BK * (weights or (1, 1, 1)))
    assert set(metrics) == {"loss"}
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-6)
