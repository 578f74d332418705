"""The kinds of error that are meant for the user."""


class UserError(ValueError):
    """A mistake of the user or a fault of the machine; the message alone says what was wrong, where, and what to do."""


class DataError(UserError):
    """A data set cannot be had or used. The message is complete: what was tried, and what to do."""


def reason(error: BaseException) -> str:
    """`error` in a few words."""
    inner = getattr(error, "reason", None)  # URLError hides the cause there
    if isinstance(inner, BaseException):
        return reason(inner)
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:400]
