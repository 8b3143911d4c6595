"""A process that compiles many programs stays below its limit of memory mappings."""

import jax
import jax.numpy as jnp
import pytest

from train.command import programs


@pytest.mark.skipif(not programs._MAPPINGS.exists(), reason="counts them on Linux")
@pytest.mark.parametrize(("limit", "many"), [(10, True), (10**9, False)])
def test_programs_are_forgotten_near_the_limit_alone(
    limit, many, monkeypatch, tmp_path
):
    (tmp_path / "limit").write_text(f"{limit}\n")
    monkeypatch.setattr(programs, "_LIMIT", tmp_path / "limit")
    double = jax.jit(lambda x: 2 * x)
    double(jnp.ones(3))
    assert programs.forget_many_programs() is many
    assert (double._cache_size() == 0) is many


def test_there_is_no_limit_but_on_linux(monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "_LIMIT", tmp_path / "missing")
    assert not programs.forget_many_programs()


@pytest.mark.skipif(not programs._MAPPINGS.exists(), reason="counts them on Linux")
def test_what_is_forgotten_leaves_memory():
    def mappings():
        return programs._MAPPINGS.read_bytes().count(b"\n")

    def loss(x):
        return jnp.sum(jnp.sort(x) @ x.T) + jax.nn.logsumexp(x)

    gradient = jax.jit(jax.grad(loss))
    for n in range(40):  # a program for each shape
        gradient(jnp.ones((5 + n, 3)))
    before = mappings()
    jax.clear_caches()
    assert mappings() < before - 400
