"""SphereFace2: the authors' values, the bias that is learned, the circle's ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import assert_is_derivative
from three_examples import COSINES, FEATURES, KERNEL, LABELS

from as_softmax_jax.heads import cosine_logits
from as_softmax_jax.losses import sphereface2_bias, sphereface2_loss

BIAS = 15.252762968495167


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("float64")
class TestPublishedValues:
    def test_bias_and_losses(self):
        assert sphereface2_bias(4) == pytest.approx(BIAS, rel=1e-14)
        losses = sphereface2_loss(COSINES, LABELS, bias=BIAS)
        expected = [0.09912245334, 0.145985018, 0.2846640205]
        np.testing.assert_allclose(losses, expected, rtol=1e-9)

    @pytest.mark.parametrize(
        ("straight_through", "expected"),
        [
            (
                False,
                [
                    [0.3792711791, 0.0002476408941, -0.03986476378, 0.001109448045],
                    [8.726448917e-07, -1.223224683, 5.859152243e-09, 0.323447672],
                    [0.001183867029, 0.6032975515, 0.2310085494, -0.007362955359],
                ],
            ),
            (
                True,
                [
                    [0.2999994093, 0.0007734717319, -0.01970906927, 0.002703642223],
                    [4.941559325e-05, -0.6936430821, 4.76633527e-05, 0.2999385979],
                    [0.002858572453, 0.3, 0.2812958999, -0.003547998167],
                ],
            ),
        ],
    )
    def test_gradients(self, straight_through, expected):
        def total(cosines):
            losses = sphereface2_loss(
                cosines, LABELS, bias=BIAS, straight_through=straight_through
            )
            return losses.sum()

        gradient = jax.grad(total)(jnp.asarray(COSINES))
        np.testing.assert_allclose(gradient, expected, rtol=1e-8)

    def test_a_gradient_flows_to_the_bias(self):
        def losses(features, bias):
            cosines = cosine_logits(features, KERNEL)
            return sphereface2_loss(cosines, LABELS, bias=bias)

        assert_is_derivative(losses, FEATURES, np.asarray(3.0))


@pytest.mark.parametrize("num_classes", [2, 3, 4, 5, 100, 85_742])
def test_the_bias_is_where_equal_cosines_cost_least(num_classes):
    cosines = np.zeros((1, num_classes))
    best = sphereface2_bias(num_classes)
    with jax.enable_x64(True):

        def loss(bias):
            return sphereface2_loss(cosines, np.array([0]), bias=bias)[0]

        slope, curvature = jax.grad(loss)(best), jax.grad(jax.grad(loss))(best)
    assert abs(slope) < 1e-9
    assert curvature > 0


def test_a_large_scale_does_not_overflow_the_bias():
    assert np.isfinite(sphereface2_bias(2, scale=1000.0, margin=1.0))


@pytest.mark.parametrize("cosine", [1.0, -1.0, 1.0000001, -1.0000001])
def test_the_ends_of_the_circle_have_a_finite_gradient(cosine):
    cosines = jnp.array([[cosine, 0.0, cosine]], jnp.float32)
    for exponent in (1.0, 1.5, 3.0):

        def total(c, exponent=exponent):
            keywords = {"bias": 0.0, "exponent": exponent}
            return sphereface2_loss(c, np.array([0]), **keywords).sum()

        assert jnp.isfinite(total(cosines))
        assert jnp.isfinite(jax.grad(total)(cosines)).all()


def test_a_class_more_adds_its_own_cost():
    # A sum over classes, which a layer that splits them over devices adds up.
    cosines = jnp.asarray(COSINES, jnp.float32)
    labels = jnp.zeros(3, int)
    whole = sphereface2_loss(cosines, labels, bias=1.0)
    first = sphereface2_loss(cosines[:, :2], labels, bias=1.0)
    rest = sphereface2_loss(
        cosines.at[:, 0].set(-jnp.inf), labels, bias=1.0, positive_weight=0.0
    ) - sphereface2_loss(
        cosines[:, :2].at[:, 0].set(-jnp.inf), labels, bias=1.0, positive_weight=0.0
    )
    np.testing.assert_allclose(whole, first + 0.3 * rest, rtol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(
        ValueError, match="`num_classes` must be an integer of at least"
    ):
        sphereface2_bias(1)
    with pytest.raises(ValueError, match=r"`positive_weight` must be inside \(0, 1\)"):
        sphereface2_bias(3, positive_weight=1.0)
    with pytest.raises(ValueError, match="`exponent` must be at least 1"):
        sphereface2_loss(COSINES, LABELS, bias=0.0, exponent=0.5)
    with pytest.raises(ValueError, match="`bias` must be finite"):
        sphereface2_loss(COSINES, LABELS, bias=np.inf)
