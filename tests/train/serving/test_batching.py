"""Waiting requests share batches, of shapes that are compiled once."""

import threading

import jax
import numpy as np
import pytest
from small_exports import TEXTS, train_kind

from train.errors import DataError
from train.predict import Predictor
from train.serving.batching import Batcher, BusyError, Question

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)


@pytest.fixture(scope="module")
def predictor(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tags")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        workdir, _ = train_kind("tokens", folder, encoder, "data.max_length=24")
        return Predictor(workdir)


@pytest.fixture
def batcher(predictor):
    found = Batcher(predictor, batch_size=0, most_waiting=20)
    yield found
    found.close()


def words(*texts):
    return [text.split() for text in texts]


@pytest.fixture
def held(batcher, predictor, monkeypatch):
    """The sizes of batches; the first waits until it is let go."""
    let_go, sizes, together = threading.Event(), [], predictor.together

    def slowly(requests, **options):
        sizes.append([len(asked.encoded.inputs) for asked in requests])
        assert let_go.wait(60)
        return together(requests, **options)

    monkeypatch.setattr(predictor, "together", slowly)
    yield sizes, let_go
    let_go.set()


def test_what_waits_is_answered_together(batcher, predictor, held):
    sizes, let_go = held
    asked = [words(*TEXTS[:k]) for k in (1, 2, 3, 4)]
    futures = [batcher.submit(Question(inputs)) for inputs in asked]
    with pytest.raises(BusyError):
        batcher.submit(Question(words("off") * 11))
    let_go.set()
    found = [future.result(60) for future in futures]
    # A batch is of eight rows, and the first may go alone.
    assert sum(len(batch) for batch in sizes) == 4
    assert all(sum(batch) <= 8 for batch in sizes)
    assert len(sizes) < 4
    for inputs, answers in zip(asked, found, strict=True):
        for one, other in zip(answers, predictor(inputs), strict=True):
            assert one["tags"] == other["tags"]
            np.testing.assert_allclose(
                np.array(one["probabilities"], float),
                np.array(other["probabilities"], float),
                atol=1e-5,
            )


def test_one_bad_question_spoils_no_other(batcher, held):
    _, let_go = held
    good = batcher.submit(Question(words("off")))
    bad = batcher.submit(Question([["half \ud83d"]]))
    other = batcher.submit(Question(words("on")))
    let_go.set()
    assert len(good.result(60)) == len(other.result(60)) == 1
    with pytest.raises(DataError, match="surrogate"):
        bad.result(60)


def test_a_client_that_goes_away_costs_nothing(batcher, held):
    _, let_go = held
    first = batcher.submit(Question(words("off")))
    gone = batcher.submit(Question(words("on")))
    assert gone.cancel() or gone.running() or gone.done()
    let_go.set()
    assert first.result(60)
    batcher.close()
    assert batcher._rows == 0


def test_nothing_compiles_after_the_warm_up(predictor, compiled):
    batcher = Batcher(predictor, batch_size=4, most_waiting=20, warm_up=True)
    try:
        # Of 8, 12, 16, 20 and 24 tokens.
        assert batcher.ready.result(120) == len(compiled) == 5
        for count in (1, 3, 9, 20):
            for text in TEXTS[:-1]:
                batcher.submit(Question(words(*[text] * count))).result(60)
        assert len(compiled) == 5
    finally:
        batcher.close()
