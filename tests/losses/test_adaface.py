"""AdaFace: the state of the lengths, the margins they give, the authors' values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from oracle import assert_is_derivative
from three_examples import COSINES, FEATURES, KERNEL, LABELS

from as_softmax_jax.heads import cosine_logits
from as_softmax_jax.losses import (
    NormState,
    adaface_loss,
    feature_norms,
    init_norm_state,
    norm_margins,
    update_norm_state,
)

LONGER = FEATURES * np.array([[3.0], [11.0], [40.0]])
NORMS = np.linalg.norm(LONGER, axis=1)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def state_of(norms):
    begun = NormState(jnp.float64(20.0), jnp.float64(100.0))
    return update_norm_state(begun, norms)


def loss_of_features(features, kernel):
    norms = feature_norms(features)
    return adaface_loss(
        cosine_logits(features, kernel), LABELS, norms=norms, norm_state=state_of(norms)
    )


@pytest.mark.usefixtures("float64")
class TestPublishedValues:
    def test_the_state(self):
        expected = [20.085396417715494, 99.24603826355415]
        np.testing.assert_allclose(state_of(NORMS), expected, rtol=1e-12)
        np.testing.assert_allclose(feature_norms(LONGER), NORMS, rtol=1e-14)

    def test_losses(self):
        expected = [3.330309401, 4.308947542, 24.71625608]
        found = loss_of_features(LONGER, KERNEL)
        np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_gradients(self):
        def total(cosines):
            losses = adaface_loss(
                cosines, LABELS, norms=NORMS, norm_state=state_of(NORMS)
            )
            return losses.sum()

        expected = [
            [61.70994993, 7.308664617e-17, -62.75439511, 1.83254251e-14],
            [5.451651408e-28, -62.77748012, 6.719821331e-32, 63.1393475],
            [8.853827688e-24, 64, 2.38573718e-15, -61.3546842],
        ]
        gradient = jax.grad(total)(jnp.asarray(COSINES))
        np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-30)

    def test_no_gradient_flows_through_the_lengths(self):
        # Of the cosines alone: no change along the features, which changes no angle.
        gradient = jax.grad(lambda f: loss_of_features(f, KERNEL).sum())(LONGER)
        np.testing.assert_allclose(np.sum(gradient * LONGER, axis=1), 0, atol=1e-12)
        assert_is_derivative(
            lambda c: adaface_loss(c, LABELS, norms=NORMS, norm_state=state_of(NORMS)),
            COSINES,
        )


class TestState:
    def test_rows_left_out_and_lengths_that_are_nan_do_not_count(self):
        norms = jnp.array([8.0, 1e9, 12.0, jnp.nan])
        where = jnp.array([True, False, True, True])
        found = update_norm_state(init_norm_state(), norms, where=where)
        expected = update_norm_state(init_norm_state(), jnp.array([8.0, 12.0]))
        np.testing.assert_array_equal(found, expected)

    def test_one_example_has_no_deviation_and_none_no_mean(self):
        begun = init_norm_state()
        one = update_norm_state(begun, jnp.array([10.0]))
        np.testing.assert_allclose(one.mean, 0.99 * 20 + 0.01 * 10, rtol=1e-6)
        assert one.deviation == begun.deviation
        nothing = jnp.array([False])
        none = update_norm_state(begun, jnp.array([10.0]), where=nothing)
        np.testing.assert_array_equal(none, begun)

    def test_lengths_are_cut(self):
        found = update_norm_state(init_norm_state(), jnp.array([0.0, 1e6]), decay=0.0)
        np.testing.assert_allclose(found.mean, (1e-3 + 100) / 2, rtol=1e-6)

    def test_devices_come_to_one_state(self):
        norms = jnp.linspace(1.0, 30.0, 16)
        where = jnp.arange(16) % 5 != 2
        mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

        def on_device(norms, where):
            return update_norm_state(
                init_norm_state(), norms, where=where, axis_name="data"
            )

        found = jax.jit(
            jax.shard_map(on_device, mesh=mesh, in_specs=P("data"), out_specs=P())
        )(norms, where)
        expected = update_norm_state(init_norm_state(), norms, where=where)
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_half_precision_is_summed_in_float32(self):
        norms = jnp.linspace(1.0, 30.0, 16).astype(jnp.bfloat16)
        found = update_norm_state(init_norm_state(), norms)
        expected = update_norm_state(init_norm_state(), norms.astype(jnp.float32))
        np.testing.assert_array_equal(found, expected)
        assert found.mean.dtype == jnp.float32

    def test_what_cannot_be_is_refused(self):
        with pytest.raises(ValueError, match=r"`decay` must be in \[0, 1\]"):
            update_norm_state(init_norm_state(), jnp.ones(2), decay=1.5)
        with pytest.raises(TypeError, match="`norms` must be floating point"):
            update_norm_state(init_norm_state(), jnp.ones(2, int))


class TestMargins:
    def test_below_0_the_concentration_turns_the_order_round(self):
        state, norms = init_norm_state(deviation=10.0), jnp.array([5.0, 50.0])
        angles, cosines = norm_margins(norms, state, concentration=-0.5)
        assert angles[0] < 0 < angles[1]
        assert cosines[0] > 0.4 > cosines[1]

    def test_a_length_of_0_is_the_lowest_quality(self):
        state = NormState(jnp.float32(20.0), jnp.float32(1.0))
        angle, cosine = norm_margins(jnp.zeros(1), state)
        np.testing.assert_allclose((angle, cosine), [[0.4], [0.0]], rtol=1e-6)

    @pytest.mark.parametrize(("cosine", "norm"), [(1.0, 99.0), (-1.0, 0.0)])
    def test_past_the_ends_of_the_circle_the_label_has_no_gradient(self, cosine, norm):
        # A negative margin below an angle of 0, and a positive one past pi.
        cosines = jnp.array([[cosine, 0.5, 0.0]])
        state = NormState(jnp.float32(20.0), jnp.float32(1.0))

        def total(c):
            return adaface_loss(
                c, jnp.array([0]), norms=jnp.array([norm]), norm_state=state, scale=4.0
            ).sum()

        gradient = jax.grad(total)(cosines)[0]
        assert gradient[0] == 0
        assert (gradient[1:] > 0).all()

    def test_lengths_and_states_that_cannot_be_give_nan_or_are_refused(self):
        cosines, labels = jnp.asarray(COSINES, jnp.float32), LABELS
        state = init_norm_state()
        norms = jnp.array([1.0, jnp.nan, 3.0])
        loss = adaface_loss(cosines, labels, norms=norms, norm_state=state)
        np.testing.assert_array_equal(jnp.isnan(loss), [False, True, False])
        with pytest.raises(ValueError, match="`norms` must be at least 0"):
            adaface_loss(cosines, labels, norms=-1.0, norm_state=state)
        bad = NormState(jnp.float32(20.0), jnp.float32(-1.0))
        with pytest.raises(
            ValueError, match=r"`norm_state\.deviation` must be at least"
        ):
            adaface_loss(cosines, labels, norms=1.0, norm_state=bad)
