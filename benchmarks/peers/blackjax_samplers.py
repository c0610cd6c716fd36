"""blackjax as its users write it: one chain's kernel, gradients by differentiation, vmap over the chains, one scan under one jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np


def prepare(task: dict[str, Any], arrays: dict[str, np.ndarray]):  # type: ignore[no-untyped-def]
    data = {name: jnp.asarray(value, dtype=task["dtype"]) for name, value in arrays.items()}
    start, steps = data["start"], task["steps"]
    init, step = algorithm(task["sampler"], log_density(data), task["step_size"], start)

    @jax.jit
    def chain(x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        def one_step(states, key):  # type: ignore[no-untyped-def]
            states, accepted = jax.vmap(step)(jax.random.split(key, len(x)), states)
            return states, accepted.mean()

        states, accepted = jax.lax.scan(one_step, jax.vmap(init)(x), jax.random.split(key, steps))
        return getattr(states, "position", states), accepted.mean()

    def run(seed: int) -> tuple[jax.Array, float | None]:
        x, acceptance = chain(start, jax.random.key(seed))
        x.block_until_ready()
        return x, None if task["sampler"] == "ula" else float(acceptance)

    return run


def algorithm(name: str, log_density: Callable[[jax.Array], jax.Array], h: float, start: jax.Array):  # type: ignore[no-untyped-def]
    """``init(position)`` and ``step(key, state) -> (state, accepted)``. blackjax has no ULA: its SGLD with the exact gradient is one."""
    if name == "ula":
        gradient = jax.grad(log_density)
        sgld = blackjax.sgld(lambda position, minibatch: gradient(position))
        return sgld.init, lambda key, state: (sgld.step(key, state, None, h), jnp.ones((), start.dtype))
    if name == "mala":
        chain = blackjax.mala(log_density, h)
    else:
        scales = jnp.full(start.shape[1], (2 * h) ** 0.5, start.dtype)
        chain = blackjax.additive_step_random_walk(log_density, blackjax.mcmc.random_walk.normal(scales))

    def step(key, state):  # type: ignore[no-untyped-def]
        state, info = chain.step(key, state)
        return state, info.is_accepted

    return chain.init, step


def log_density(data: dict[str, jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """log pi of one position, up to a constant."""
    if "precision" in data:
        return lambda x: -0.5 * (data["precision"] * x * x).sum()
    if "means" in data:
        return lambda x: jax.nn.logsumexp(-0.5 * ((x - data["means"]) ** 2).sum(1))

    def posterior(x: jax.Array) -> jax.Array:
        z = data["features"] @ x
        return (data["labels"] * z - jax.nn.softplus(z)).sum() - (x @ x) / (2 * data["prior_variance"])

    return posterior
