"""Losses beside those of other libraries, in float64: optax, and PyTorch by `peers`.

    pip install -e '.[train,test,peers]'
    python -m pytest tests/peers

Each peer is called as its users call it; a comment says what is known to differ.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from as_softmax_jax import losses
from as_softmax_jax.heads import cosine_logits, l_softmax_loss

ROWS, CLASSES, WIDTH = 16, 7, 5
RNG = np.random.default_rng(0)
LOGITS = 3.0 * RNG.normal(size=(ROWS, CLASSES))
LABELS = RNG.integers(0, CLASSES, ROWS)
ONEHOT = np.eye(CLASSES)[LABELS]
PROBS = RNG.dirichlet(np.ones(CLASSES), ROWS)
FEATURES = RNG.normal(size=(ROWS, WIDTH))
KERNEL = RNG.normal(size=(WIDTH, CLASSES))

pytestmark = pytest.mark.standard_promotion(reason="peers promote dtypes")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def assert_equal(ours, peer, rtol=1e-9):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(peer), rtol, 1e-10)


class TestOptax:
    def test_softmax(self):
        peer = optax.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS)
        assert_equal(losses.softmax_loss(LOGITS, LABELS), peer)

    def test_poly(self):
        peer = optax.losses.poly_loss_cross_entropy(LOGITS, ONEHOT, epsilon=2.0)
        assert_equal(losses.poly_loss(LOGITS, LABELS, epsilon=2.0), peer)

    def test_poly_of_distributions(self):
        ours = losses.poly_loss(LOGITS, PROBS, epsilon=2.0)
        peer = optax.losses.poly_loss_cross_entropy(LOGITS, PROBS, epsilon=2.0)
        assert_equal(ours, peer)

    def test_label_smoothing(self):
        smooth = optax.smooth_labels(jnp.asarray(ONEHOT), 0.1)
        peer = optax.softmax_cross_entropy(LOGITS, smooth)
        assert_equal(losses.label_smoothing_loss(LOGITS, LABELS, smoothing=0.1), peer)

    def test_sparsemax(self):
        peer = optax.losses.multiclass_sparsemax_loss(LOGITS, LABELS)
        assert_equal(losses.sparsemax_loss(LOGITS, LABELS), peer)

    def test_squared_hinge_is_a_sum_of_squares_of_hinges(self):
        peer = (optax.hinge_loss(LOGITS, 2 * ONEHOT - 1) ** 2).sum(axis=-1)
        assert_equal(losses.squared_hinge_loss(LOGITS, LABELS), peer)

    def test_one_against_rest(self):
        peer = optax.sigmoid_binary_cross_entropy(LOGITS, ONEHOT).sum(axis=-1)
        assert_equal(losses.one_vs_rest_loss(LOGITS, LABELS), peer)

    def test_focal_of_two_classes(self):
        # optax's is binary: of the difference of two logits, alpha left out.
        logits, labels = LOGITS[:, :2], LABELS % 2
        gap = logits[:, 1] - logits[:, 0]
        peer = optax.losses.sigmoid_focal_loss(gap, labels.astype(float), gamma=2.0)
        assert_equal(losses.focal_loss(logits, labels, gamma=2.0), peer)


class TestPyTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch", reason="the extra `peers` has it")

    def test_label_smoothing(self, torch):
        peer = torch.nn.functional.cross_entropy(
            torch.tensor(LOGITS),
            torch.tensor(LABELS),
            label_smoothing=0.1,
            reduction="none",
        )
        assert_equal(losses.label_smoothing_loss(LOGITS, LABELS, smoothing=0.1), peer)

    @pytest.mark.parametrize(
        ("name", "keywords"),
        [("entmax15_loss", {"alpha": 1.5}), ("sparsemax_loss", {"alpha": 2.0})],
    )
    def test_entmax(self, torch, name, keywords):
        entmax = pytest.importorskip("entmax", reason="the extra `peers` has it")
        logits = torch.tensor(LOGITS, requires_grad=True)
        peer = getattr(entmax, name)(logits, torch.tensor(LABELS))
        ours, gradient = jax.value_and_grad(
            lambda z: losses.entmax_loss(z, LABELS, **keywords).sum()
        )(jnp.asarray(LOGITS))
        assert_equal(ours, peer.sum().detach())
        peer.sum().backward()
        assert_equal(gradient, logits.grad)

    def test_ordinal_cross_entropy(self, torch):
        coral = pytest.importorskip(
            "coral_pytorch.losses", reason="the extra `peers` has it"
        )
        levels = (np.arange(CLASSES)[None] < LABELS[:, None]).astype(float)
        peer = coral.coral_loss(
            torch.tensor(LOGITS), torch.tensor(levels), reduction=None
        )
        assert_equal(losses.ordinal_cross_entropy_loss(LOGITS, LABELS), peer)

    @pytest.mark.parametrize("centres", [1, 3])
    def test_arcface(self, torch, centres):
        pml = pytest.importorskip(
            "pytorch_metric_learning.losses", reason="the extra `peers` has it"
        )
        kernel = RNG.normal(size=(WIDTH, CLASSES * centres))
        degrees = float(np.degrees(0.5))
        kind = pml.ArcFaceLoss if centres == 1 else pml.SubCenterArcFaceLoss
        more = {} if centres == 1 else {"sub_centers": centres}
        sizes = {"num_classes": CLASSES, "embedding_size": WIDTH}
        peer = kind(**sizes, margin=degrees, scale=64, **more)
        cosines = cosine_logits(FEATURES, kernel, sub_centers=centres)
        ours = losses.arcface_loss(cosines, LABELS, margin=0.5, scale=64.0)
        assert_equal(ours.mean(), self.of(torch, peer, kernel))

    def test_cosface(self, torch):
        pml = pytest.importorskip(
            "pytorch_metric_learning.losses", reason="the extra `peers` has it"
        )
        peer = pml.CosFaceLoss(CLASSES, WIDTH, margin=0.35, scale=30)
        cosines = cosine_logits(FEATURES, KERNEL)
        ours = losses.am_softmax_loss(cosines, LABELS, margin=0.35, scale=30.0)
        assert_equal(ours.mean(), self.of(torch, peer, KERNEL))

    def test_circle(self, torch):
        pml = pytest.importorskip(
            "pytorch_metric_learning.losses", reason="the extra `peers` has it"
        )
        # Its pairs are those of examples and the classes' weights, one a class.
        peer = pml.CircleLoss(m=0.25, gamma=64)(
            torch.tensor(FEATURES),
            torch.tensor(LABELS),
            ref_emb=torch.tensor(KERNEL.T.copy()),
            ref_labels=torch.arange(CLASSES),
        )
        cosines = cosine_logits(FEATURES, KERNEL)
        ours = losses.circle_loss(cosines, LABELS, margin=0.25, scale=64.0)
        # PyTorch's softplus turns linear above 20, which is 2e-9 off.
        assert_equal(ours.mean(), peer, rtol=1e-8)

    @pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
    @pytest.mark.parametrize("margin", [2, 4])
    def test_l_softmax(self, torch, margin):
        pml = pytest.importorskip(
            "pytorch_metric_learning.losses", reason="the extra `peers` has it"
        )
        peer = pml.LargeMarginSoftmaxLoss(CLASSES, WIDTH, margin=margin)
        ours = l_softmax_loss(FEATURES, KERNEL, LABELS, margin=margin)
        assert_equal(ours.mean(), self.of(torch, peer, KERNEL))

    @staticmethod
    def of(torch, peer, kernel):
        peer = peer.double()
        with torch.no_grad():
            peer.W.copy_(torch.tensor(kernel))
        return peer(torch.tensor(FEATURES), torch.tensor(LABELS)).detach()
