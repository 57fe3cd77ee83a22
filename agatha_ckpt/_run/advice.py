"""Advice for a caller who gives something else than a dask collection."""

_ADVICE = {
    "builtins.dict": "dask.bag.from_sequence(given.items()) makes a bag of its items",
    "builtins.function": "call it, and give the collection that it returns",
    "builtins.str": "dask.bag.read_text(path) makes a bag of the lines of a file",
    "numpy.ndarray": "dask.array.from_array(given) makes an array",
    "dask.Index": "its method to_frame() makes a DataFrame",
    "dask.Scalar": "its method to_delayed() makes a Delayed",
    "distributed.Future": "give the collection itself; a Future is the result of one "
    "task",
    "pandas.DataFrame": "dask.dataframe.from_pandas(given, npartitions=...) makes one",
    "pandas.Series": "dask.dataframe.from_pandas(given, npartitions=...) makes one",
    "pathlib.PurePath": "dask.bag.read_text(path) makes a bag of the lines of a file",
    "polars.DataFrame": "dask.bag.from_sequence(given.to_dicts()) makes a bag of its "
    "rows",
    "pyarrow.Table": "dask.bag.from_sequence(given.to_pylist()) makes a bag of its "
    "rows",
}
_ADVICE["builtins.bytes"] = _ADVICE["builtins.str"]


def named(cls: type) -> str:
    """Return the name of a type, with its package and an article.

    Examples
    --------
    >>> named(list), named(int)
    ('a list', 'an int')
    """
    package = cls.__module__.partition(".")[0]
    name = cls.__name__ if package == "builtins" else f"{package} {cls.__name__}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def advice_for(given: object) -> str:
    """Return how to make a collection of *given*.

    Examples
    --------
    >>> advice_for([1, 2])
    'dask.bag.from_sequence(given) makes one'
    >>> advice_for({1: 2})
    'dask.bag.from_sequence(given.items()) makes a bag of its items'
    """
    cls = type(given)
    for base in cls.__mro__:
        package = str(base.__module__).partition(".")[0]
        if advice := _ADVICE.get(f"{package}.{base.__name__}"):
            return advice
    members = given if isinstance(given, list | tuple) else ()
    if any(hasattr(type(member), "__dask_graph__") for member in members):
        return "save each of its members under a name of its own"
    if hasattr(cls, "__iter__"):
        return "dask.bag.from_sequence(given) makes one"
    return "dask.bag.from_sequence([...]) makes one of a list of records"
