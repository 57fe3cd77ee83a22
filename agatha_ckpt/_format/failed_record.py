"""FailedRecord: what stands in the place of a record that failed."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class FailedRecord:
    """What stands in the place of a record that a function could not give.

    Of a type of the format: it is stored without pickle. Each field is a str of bounded
    length.

    Attributes
    ----------
    repr : str
        That of what the function was called with.
    error_type : str
        Name of the type of the exception, with its module.
    message : str
        Of the exception.
    traceback : str
        Its end.
    """

    repr: str
    error_type: str
    message: str
    traceback: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            if type(getattr(self, field.name)) is not str:
                raise TypeError(f"the field {field.name} of a FailedRecord is a str")
