"""A Ray on this machine, whose workers find the package and these helpers."""

import os
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent


@contextmanager
def running(workers: int, hook: str = ""):
    """Its address; so many workers, each of which calls `hook` of on_workers first."""
    import ray

    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    environment = {"env_vars": {"PYTHONPATH": path}}
    environment |= {"worker_process_setup_hook": f"on_workers.{hook}"} if hook else {}
    ray.init(
        num_cpus=workers, include_dashboard=False, log_to_driver=False, runtime_env=environment
    )
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()
