"""A cluster for the tests of dask."""

import pytest

from tests.dask.cluster_cases import a_cluster


@pytest.fixture(scope="session")
def _cluster_of_two(tmp_path_factory):
    with a_cluster(
        tmp_path_factory.mktemp("workers"), n_workers=2, silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture
def small_cluster(_cluster_of_two):
    """The client of a cluster of two processes, one thread each, which is in force."""
    from distributed import Client

    with Client(_cluster_of_two) as client:
        client.wait_for_workers(2)
        yield client
