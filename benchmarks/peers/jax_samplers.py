"""JAX by hand: the whole population in one array, gradients written out, one scan under one jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Both = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def prepare(task: dict[str, Any], arrays: dict[str, np.ndarray]):  # type: ignore[no-untyped-def]
    data = {name: jnp.asarray(value, dtype=task["dtype"]) for name, value in arrays.items()}
    start, h, steps = data["start"], task["step_size"], task["steps"]
    both = log_density_and_score(data)
    step = {"ula": ula, "mala": mala, "rwm": rwm}[task["sampler"]](both, h)

    @jax.jit
    def chain(x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = (x, *both(x))
        state, accepted = jax.lax.scan(step, state, jax.random.split(key, steps))
        return state[0], accepted.mean()

    def run(seed: int) -> tuple[jax.Array, float | None]:
        x, acceptance = chain(start, jax.random.key(seed))
        x.block_until_ready()
        return x, None if task["sampler"] == "ula" else float(acceptance)

    return run


def log_density_and_score(data: dict[str, jax.Array]) -> Both:
    """log pi up to a constant, (N,), and its gradient, (N, d); what a sampler does not use the compiler removes."""
    if "precision" in data:
        precision = data["precision"]
        return lambda x: (-0.5 * (precision * x * x).sum(1), -precision * x)
    if "means" in data:
        means = data["means"]

        def mixture(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            # of -|x - mu|^2 / 2 the part |x|^2 / 2 is common to all modes
            logs = x @ means.T - 0.5 * (means * means).sum(1)
            top = logs.max(1, keepdims=True)
            share = jnp.exp(logs - top)
            total = share.sum(1, keepdims=True)
            return (top + jnp.log(total))[:, 0] - 0.5 * (x * x).sum(1), (share / total) @ means - x

        return mixture
    features, labels, variance = data["features"], data["labels"], data["prior_variance"]

    def posterior(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = x @ features.T
        log_density = (labels * z - jax.nn.softplus(z)).sum(1) - (x * x).sum(1) / (2 * variance)
        return log_density, (labels - jax.nn.sigmoid(z)) @ features - x / variance

    return posterior


def ula(both: Both, h: float):  # type: ignore[no-untyped-def]
    def step(state, key):  # type: ignore[no-untyped-def]
        x = state[0] + h * state[2] + (2 * h) ** 0.5 * jax.random.normal(key, state[0].shape, state[0].dtype)
        return (x, *both(x)), jnp.ones((), x.dtype)

    return step


def mala(both: Both, h: float):  # type: ignore[no-untyped-def]
    def step(state, key):  # type: ignore[no-untyped-def]
        x, value, score = state
        noise, accept = jax.random.split(key)
        xi = jax.random.normal(noise, x.shape, x.dtype)
        y = x + h * score + (2 * h) ** 0.5 * xi
        value_y, score_y = both(y)
        back = x - y - h * score_y
        log_ratio = value_y - value - (back * back).sum(1) / (4 * h) + 0.5 * (xi * xi).sum(1)
        return choose(accept, log_ratio, (y, value_y, score_y), state)

    return step


def rwm(both: Both, h: float):  # type: ignore[no-untyped-def]
    def step(state, key):  # type: ignore[no-untyped-def]
        x, value, score = state
        noise, accept = jax.random.split(key)
        y = x + (2 * h) ** 0.5 * jax.random.normal(noise, x.shape, x.dtype)
        value_y = both(y)[0]
        return choose(accept, value_y - value, (y, value_y, score), state)

    return step


def choose(key, log_ratio, new, old):  # type: ignore[no-untyped-def]
    """Accept row by row; the rate beside the state."""
    accepted = jnp.log(jax.random.uniform(key, log_ratio.shape, log_ratio.dtype)) < log_ratio
    kept = tuple(jnp.where(accepted[:, None] if n.ndim == 2 else accepted, n, o) for n, o in zip(new, old, strict=True))
    return kept, accepted.mean()
