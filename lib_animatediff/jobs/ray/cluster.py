"""The cluster: this machine, unless the environment names another one (RAY_ADDRESS, which `ray job submit` sets)."""

from __future__ import annotations

import logging
import os
from typing import Any

from motion_module import AnimateDiffError

_ADDRESS = "RAY_ADDRESS"  # Ray's own name
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}  # it would report its use to its makers


class RayError(AnimateDiffError):
    """Ray is missing, or none of its workers can compute."""


def connect() -> Any:
    """The module `ray`, connected to its cluster.

    Raises:
        RayError: it is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise RayError(
            "Ray is not installed. Install it: pip install 'lib-animatediff[ray]'.", code="AD-M40"
        ) from error
    if ray.is_initialized():
        return ray
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **_where())
    except Exception as error:  # Ray raises errors of many types
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(". ")
        raise RayError(
            f"There is no Ray cluster ({reason}). Start one with ray start --head, or remove {_ADDRESS} from the "
            "environment to use this machine.",
            code="AD-M41",
        ) from error
    return ray


def _where() -> dict[str, Any]:
    address = os.environ.get(_ADDRESS)
    return {"address": address} if address else {"address": "local", "include_dashboard": False}


def resources(ray: Any) -> dict[str, float]:
    """What a worker takes of the cluster: a graphics card, or a core if there are no cards."""
    return {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
