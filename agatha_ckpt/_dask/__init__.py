"""Between dask collections and partitions: the only dask graphs."""
