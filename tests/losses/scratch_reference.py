"""The meaning of the scratch losses, by autodiff alone."""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import softmax_loss, temperature_softmax_loss


def signs(key, shape, dtype):
    """-1 or 1, the same for every dtype: float32 decides, with 64-bit types as well."""
    drawn = jax.random.bernoulli(key, jnp.float32(0.5), shape)
    return jnp.where(drawn, 1, -1).astype(dtype)


def class_prior_loss(logits, labels, class_counts, tau):
    prior = jnp.log(class_counts / class_counts.sum())
    return softmax_loss(logits + tau[..., None] * prior[None], labels)


def noisy_softmax_loss(logits, labels, key, noise):
    drawn = signs(key, logits.shape, logits.dtype)
    return softmax_loss(logits + noise[..., None] * drawn, labels)


def own_temperature_loss(logits, labels, temperature):
    return temperature_softmax_loss(logits, labels, temperature)


def batch_weighted_loss(logits, labels, threshold):
    return (1 + threshold) * softmax_loss(logits, labels)


def two_head_loss(logits, labels, other_logits, weight):
    return softmax_loss(logits, labels) + weight * softmax_loss(other_logits, labels)


def leaning_loss(logits, labels):
    share = jax.nn.sigmoid(logits)
    weights = jnp.arange(logits.shape[-1]).astype(logits.dtype) / logits.shape[-1]
    at_label = jnp.take_along_axis(share, labels[..., None], axis=-1)[..., 0]
    return jnp.sum(share * weights[None], axis=-1) - 8 * at_label
