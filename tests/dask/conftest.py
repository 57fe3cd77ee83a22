"""A cluster for the tests of dask."""

import dask
import pytest


@pytest.fixture(scope="session")
def _cluster_of_two(tmp_path_factory):
    from distributed import LocalCluster

    config = {
        "distributed.scheduler.allowed-failures": 1,
        "distributed.deploy.lost-worker-timeout": "1 hour",
    }
    with (
        dask.config.set(config),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            protocol="tcp://",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            local_directory=tmp_path_factory.mktemp("workers"),
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def small_cluster(_cluster_of_two):
    """The client of a cluster of two processes, one thread each, which is in force."""
    from distributed import Client

    with Client(_cluster_of_two) as client:
        client.wait_for_workers(2)
        yield client
