"""Fixtures: the schedulers that compute."""

import dask
import pytest


@pytest.fixture
def sync():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture(params=["threads", "processes", "cluster"])
def how(request, tmp_path_factory):
    """The keywords by which a collection is saved and computed."""
    if request.param != "cluster":
        yield {"scheduler": request.param, "num_workers": 1}
        return
    distributed = pytest.importorskip("distributed")
    from tests.dask.cluster_cases import a_cluster

    folder = tmp_path_factory.mktemp("workers")
    with (
        a_cluster(folder, 1, processes=False, silence_logs=50) as cluster,
        dask.config.set(scheduler=None),
        distributed.Client(cluster),
    ):
        yield {}
