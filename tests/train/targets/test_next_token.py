"""The next token: labels, outputss, metrics and answers."""

import functools

import jax.numpy as jnp
import numpy as np

from train.config import DataConfig
from train.data.examples import Encoded
from train.targets import Calibration
from train.targets.next_token import NextToken

TARGET = NextToken()
TOKENS = np.array([[3, 1, 2, -1], [0, -1, -1, -1], [-1, -1, -1, -1]], np.int32)
LOGITS = np.log(
    np.array([[0.1, 0.2, 0.6, 0.1], [0.7, 0.1, 0.1, 0.1]], np.float32)
)  # of the positions below
ENCODED = Encoded(TOKENS, np.array([3, 1, 0], np.int32))


def test_labels_are_the_tokens_moved_up_by_one():
    labels = TARGET.encode(None, ENCODED, (), DataConfig())
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(
        labels, [[1, 2, -1, -1], [-1, -1, -1, -1], [-1, -1, -1, -1]]
    )


def test_metrics_are_of_what_the_positions_were_told():
    labels = np.array([[2, 1, -1]])
    logits = np.stack([LOGITS[0], LOGITS[1], np.full(4, np.nan, np.float32)])[None]
    outputs = np.asarray(TARGET.outputs(jnp.asarray(logits), jnp.asarray(labels)))
    assert outputs.shape == (1, 3, 3)
    mean = (np.log(0.6) + np.log(0.1)) / 2
    figures = TARGET.score(outputs, labels, ())
    np.testing.assert_allclose(figures["log_likelihood"], mean, rtol=1e-5)
    np.testing.assert_allclose(figures["perplexity"], np.exp(-mean), rtol=1e-5)
    assert figures["accuracy"] == 0.5
    margins = TARGET.margins(outputs, labels, unit="probability")
    np.testing.assert_allclose(margins, [0.6 - 0.2, 0.1 - 0.7], rtol=1e-5)
    margins = TARGET.margins(outputs, labels, unit="logits")
    np.testing.assert_allclose(margins, np.log([0.6 / 0.2, 0.1 / 0.7]), rtol=1e-5)


def test_an_answer_is_the_likeliest_token_after_the_text():
    logits = np.zeros((3, 4, 4), np.float32)
    logits[0, 2], logits[1, 0] = LOGITS
    outputs = np.asarray(TARGET.outputs(jnp.asarray(logits), None))
    answer = functools.partial(
        TARGET.answers, outputs, ENCODED, tuple("abcd"), Calibration(1.0, 0.0)
    )
    answers = answer(unit="probability")
    assert [answer["next"] for answer in answers] == ["c", "a", None]
    np.testing.assert_allclose(answers[0]["probability"], 0.6, rtol=1e-5)
    np.testing.assert_allclose(answers[1]["margin"], 0.7 - 0.1, rtol=1e-5)
    assert answers[2] == {"next": None, "probability": None, "margin": None}
    in_logits = answer(unit="logits")
    np.testing.assert_allclose(in_logits[1]["margin"], np.log(0.7 / 0.1), rtol=1e-5)
    assert in_logits[1]["probability"] == answers[1]["probability"]
