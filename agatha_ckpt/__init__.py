"""Named, durable checkpoints of dask collections, on local disk or any bucket.

The package is also the module of the original function API::

    import agatha_ckpt as checkpoint

    checkpoint.set_root("/data/run-1")
    sentences = checkpoint.checkpoint("sentences", documents.map(split))
"""

import typing as _typing

if _typing.TYPE_CHECKING:
    from agatha_ckpt import _public
    from agatha_ckpt._public import *  # noqa: F403
    from agatha_ckpt._public import __version__ as __version__

    __all__ = _public.__all__
else:
    # Imported when the first is used: the command line lies in this package, and is to
    # import no more than a command needs.

    _NAMES = ("__all__", "__version__")

    def __getattr__(name: str) -> object:
        if name in _NAMES or not name.startswith("_"):
            from agatha_ckpt import _public

            for public in (*_NAMES, *_public.__all__):
                globals()[public] = getattr(_public, public)
            if name in globals():
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
