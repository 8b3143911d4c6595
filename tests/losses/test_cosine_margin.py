"""Margins on cosines: values of the authors' code, the ends of the circle, draws.

Values were computed in float64 by InsightFace's, pytorch-metric-learning's and
ElasticFace's code.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from three_examples import COSINES, LABELS, LOGITS

from as_softmax_jax.losses import (
    am_softmax_loss,
    arcface_loss,
    balanced_softmax_loss,
    circle_loss,
    class_prior,
    effective_number_weights,
    elastic_arcface_loss,
    elastic_cosface_loss,
    elastic_margins,
    ldam_loss,
    ldam_margins,
    margin_logits,
    margin_softmax_loss,
    rank_margins,
    real_am_softmax_loss,
    real_am_softmax_settled,
    softmax_loss,
)

COUNTS = np.array([100, 20, 5, 1])

PUBLISHED = {
    "am_softmax": (
        lambda c: am_softmax_loss(c, LABELS),
        [0.7889686846, 0.9561799643, 9.721480979],
    ),
    "arcface": (
        lambda c: arcface_loss(c, LABELS),
        [6.54335709, 8.738046967, 26.49524716],
    ),
    "normalised softmax": (
        lambda c: margin_softmax_loss(c, LABELS, scale=10.0),
        [0.03176085656, 0.03472323794, 0.5730161524],
    ),
    "elastic_arcface": (
        lambda c: margin_softmax_loss(
            c, LABELS, angle=np.array([0.47, 0.56, 0.51]), beyond="plain"
        ),
        [4.67450287, 12.5752727, 27.11976446],
    ),
    "elastic_cosface": (
        lambda c: margin_softmax_loss(c, LABELS, cosine=np.array([0.32, 0.41, 0.36])),
        [0.1961767105, 4.852828354, 21.37903142],
    ),
    "ldam": (
        lambda c: ldam_loss(c, LABELS, class_counts=COUNTS),
        [0.560492914, 0.05172459135, 14.22142166],
    ),
    "circle": (
        lambda c: circle_loss(c, LABELS),
        [23.55597398, 40.43061206, 101.0316747],
    ),
    "real_am_softmax, and its least value": (
        lambda c: real_am_softmax_loss(c, LABELS) + np.log(4),
        [np.log(4), np.log(4), 5.237490126],
    ),
}
GRADIENTS = {
    "arcface": [
        [63.90786257, 7.568976064e-17, -81.75488971, 1.89781186e-14],
        [5.525076692e-28, -75.50179541, 6.810326896e-32, 63.98973653],
        [8.853827688e-24, 64, 2.385737181e-15, -83.37054049],
    ],
    "circle": [
        [140.0546208, 0, -155.5920953, 0],
        [0, -183.450506, 0, 0.1649809709],
        [0, 227.1934496, 8.694099937e-44, -150.1626761],
    ],
    "real_am_softmax, and its least value": [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 29.52177811, 0, -29.52177811],
    ],
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_losses(name):
    function, expected = PUBLISHED[name]
    np.testing.assert_allclose(function(jnp.asarray(COSINES)), expected, rtol=1e-8)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_published_losses(name):
    function, _ = PUBLISHED[name]
    gradient = jax.grad(lambda c: function(c).sum())(jnp.asarray(COSINES))
    np.testing.assert_allclose(gradient, GRADIENTS[name], rtol=1e-7, atol=1e-30)


def test_a_gradient_straight_through_the_margin():
    # As InsightFace's code has it: the loss's own, with 1 for the cosine's slope.
    def total(c):
        return arcface_loss(c, LABELS, straight_through=True).sum()

    gradient = jax.grad(total)(jnp.asarray(COSINES))
    np.testing.assert_allclose(
        gradient[np.arange(3), LABELS], [-63.90786257, -63.98973653, -64], rtol=1e-8
    )


def test_past_pi_nearer_stays_better():
    cosines = jnp.array([[-0.95, 0.1, 0.2, 0.3], [0.1, -0.5, 0.4, 0.2]])
    labels = np.array([0, 1])
    expected = [95.34328017, 80.25510527]
    np.testing.assert_allclose(arcface_loss(cosines, labels), expected, rtol=1e-8)
    clipped = margin_logits(cosines, labels, angle=0.5, scale=1.0, beyond="clip")
    assert clipped[0, 0] == -1.0
    plain = margin_logits(cosines, labels, angle=0.5, scale=1.0, beyond="plain")
    np.testing.assert_allclose(plain[0, 0], np.cos(np.arccos(-0.95) + 0.5))
    linear = margin_logits(cosines, labels, angle=0.5, scale=1.0)
    np.testing.assert_allclose(linear[0, 0], -0.95 - 0.5 * np.sin(0.5))


def test_a_margin_below_an_angle_of_0_is_clipped_to_1():
    cosines = jnp.array([[0.99, 0.1]])
    logits = margin_logits(cosines, np.array([0]), angle=-0.5, scale=1.0, beyond="clip")
    assert logits[0, 0] == 1.0


@pytest.mark.parametrize("cosine", [1.0, -1.0, 1.0000001, -1.0000001])
def test_the_ends_of_the_circle_have_a_finite_gradient(cosine):
    cosines = jnp.array([[cosine, 0.0, 0.0, 0.0]], jnp.float32)
    gradient = jax.grad(lambda c: arcface_loss(c, np.array([0])).sum())(cosines)
    assert jnp.isfinite(gradient).all()


def test_values_at_the_ends():
    # An aligned, an orthogonal and an opposite example among four classes.
    cosines = jnp.array([[0.0, 0, 0, 0], [1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    labels = np.zeros(3, np.int32)
    np.testing.assert_allclose(
        am_softmax_loss(cosines, labels),
        [11.59862147, 1.019480341e-08, 41.59861229],
        rtol=1e-8,
    )
    np.testing.assert_allclose(
        arcface_loss(cosines, labels),
        [31.78184676, 1.215761415e-24, 80.44022952],
        rtol=1e-8,
    )


def test_the_largest_margin_goes_to_the_smallest_cosine():
    drawn, cosines = np.array([0.49, 0.52, 0.5, 0.47]), np.array([0.2, 0.9, 0.1, 0.5])
    np.testing.assert_array_equal(rank_margins(drawn, cosines), [0.5, 0.47, 0.52, 0.49])
    where = np.array([True, True, False, True])
    np.testing.assert_array_equal(
        rank_margins(drawn, cosines, where=where), [0.52, 0.49, 0.0, 0.5]
    )


def test_margins_are_drawn_anew_for_each_key():
    one, other = (
        elastic_arcface_loss(jnp.asarray(COSINES), LABELS, key=jax.random.key(seed))
        for seed in (0, 1)
    )
    assert (one != other).all()
    margins = elastic_margins(jax.random.key(0), (10_000,), mean=0.5, deviation=0.05)
    np.testing.assert_allclose(margins.mean(), 0.5, atol=0.002)
    np.testing.assert_allclose(margins.std(), 0.05, atol=0.002)


def test_real_am_softmax_has_no_gradient_at_its_margin():
    """Where a rival is the margin below; half of one is what a maximum would have."""
    cosines = jnp.array([[0.75, 0.5, -0.5], [0.75, 0.5, 0.625]])
    labels, options = np.zeros(2, int), {"margin": 0.25, "scale": 32.0}

    def loss(cosines):
        return real_am_softmax_loss(cosines, labels, **options).sum()

    gradient = jax.grad(loss)(cosines)
    np.testing.assert_array_equal(gradient[0], np.zeros(3))
    assert gradient[1, 1] == 0  # beside a rival that is nearer
    assert gradient[1, 2] > 0
    settled = real_am_softmax_settled(cosines, labels, **options)
    np.testing.assert_array_equal(settled, [True, False])


@pytest.mark.parametrize("loss", [elastic_arcface_loss, elastic_cosface_loss])
def test_margins_over_a_mesh(loss):
    """One draw for the batch under jit; a draw a device, by its key, in shard_map."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    cosines = jnp.tile(jnp.asarray(COSINES[:1], jnp.float32), (8, 1))
    labels, key = jnp.zeros(8, int), jax.random.key(3)
    spread = jax.device_put((cosines, labels), NamedSharding(mesh, P("data")))
    drawn = jax.jit(loss)(cosines, labels, key=key)
    np.testing.assert_allclose(jax.jit(loss)(*spread, key=key), drawn, rtol=1e-5)

    def of_a_device(cosines, labels, own):
        place = jax.lax.axis_index("data")
        return loss(cosines, labels, key=jax.random.fold_in(key, place) if own else key)

    def over_devices(own):
        parts = jax.shard_map(
            functools.partial(of_a_device, own=own),
            mesh=mesh,
            in_specs=P("data"),
            out_specs=P("data"),
        )
        return np.unique(np.round(parts(*spread), 4)).size

    assert over_devices(own=True) == 8
    assert over_devices(own=False) == 2


class TestClassCounts:
    def test_balanced_softmax(self):
        def losses(logits):
            return balanced_softmax_loss(logits, LABELS, class_counts=COUNTS)

        logits = jnp.asarray(LOGITS)
        expected = [1.923598817, 2.02359247, 11.70955998]
        np.testing.assert_allclose(losses(logits), expected, rtol=1e-9)
        gradient = jax.grad(lambda o: losses(o).sum())(logits)
        expected = [0.7962305152, 0.04796400451, -0.8539197012, 0.009725181474]
        np.testing.assert_allclose(gradient[0], expected, rtol=1e-9)

    def test_a_class_that_never_occurs(self):
        logits, counts = jnp.array([[0.2, 0.9, -0.1]] * 2), np.array([3, 0, 5])
        labels = np.array([0, 1])

        def losses(logits):
            return balanced_softmax_loss(logits, labels, class_counts=counts)

        # log(1 + 5/3 e^(-0.1 - 0.2)); as a label it costs all there is.
        expected = [np.log1p(5 / 3 * np.exp(-0.3)), np.inf]
        np.testing.assert_allclose(losses(logits), expected)
        gradient = jax.grad(lambda o: losses(o)[0])(logits)
        np.testing.assert_allclose(
            gradient[0], [-0.5525120477, 0, 0.5525120477], rtol=1e-9
        )
        np.testing.assert_allclose(
            ldam_margins(counts), [0.5, 0.5, 0.5 * (3 / 5) ** 0.25]
        )
        np.testing.assert_allclose(
            effective_number_weights(counts), [1.249953125, 0, 0.7500468748], rtol=1e-8
        )

    def test_margins_and_weights(self):
        roots = COUNTS**-0.25
        np.testing.assert_allclose(ldam_margins(COUNTS), 0.5 * roots / roots.max())
        np.testing.assert_allclose(
            effective_number_weights(COUNTS),
            [0.03189996802, 0.1588637188, 0.634978538, 3.174257775],
            rtol=1e-8,
        )
        ones = effective_number_weights(COUNTS, beta=0.0)
        np.testing.assert_array_equal(ones, np.ones(4))

    def test_the_prior_on_any_loss_is_the_balanced_loss(self):
        logits = jnp.asarray(LOGITS)
        adjusted = softmax_loss(logits + class_prior(COUNTS)[None], LABELS)
        balanced = balanced_softmax_loss(logits, LABELS, class_counts=COUNTS)
        np.testing.assert_allclose(balanced, adjusted, rtol=1e-12)

    @pytest.mark.parametrize(
        ("counts", "message"),
        [
            ([1, 2, 3], "shape"),
            ([1, -2, 3, 4], "at least 0"),
            ([1, np.inf, 3, 4], "finite"),
            ([0, 0, 0, 0], "must not all be 0"),
        ],
    )
    def test_counts_that_do_not_fit_are_refused(self, counts, message):
        with pytest.raises(ValueError, match=message):
            balanced_softmax_loss(LOGITS, LABELS, class_counts=np.array(counts))
