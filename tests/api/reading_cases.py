"""Bags that note which records are computed, and what lies in a store."""

import dask.bag

calls = []


def noted(n):
    calls.append(n)
    return n


def numbers(*values, npartitions=2):
    return dask.bag.from_sequence(values, npartitions=npartitions).map(noted)


def files(store):
    return {
        path: (info.get("mtime"), info["size"])
        for path, info in store.fs.find(store.url, detail=True, withdirs=True).items()
    }
