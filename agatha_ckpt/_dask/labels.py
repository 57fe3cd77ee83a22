"""Names of tasks, as dask's dashboard and logs show them."""

from dask.utils import key_split

_HYPHEN = "\N{HYPHEN}"  # which no name has


def label(verb: str, name: str) -> str:
    """Return the name of the tasks that do something with a checkpoint.

    dask shows a key up to its first word that holds a digit, where words are separated
    by ``-``. Names that it would cut have another hyphen.

    Examples
    --------
    >>> label("save", "gene_sentences.2026")
    'save:gene_sentences.2026'
    >>> label("save", "run-2") == "save:run-2".replace("-", "\N{HYPHEN}")
    True
    """
    text = f"{verb}:{name}"
    return text if key_split(f"{text}-0") == text else text.replace("-", _HYPHEN)


def name_in(text: str) -> str:
    """Return the name of the checkpoint, of the part of a label after the verb."""
    return text.replace(_HYPHEN, "-")
