"""The one kind of error that is meant for the user."""


class UserError(ValueError):
    """A mistake of the user or a fault of the machine; the message alone says what was wrong, where, and what to do."""
