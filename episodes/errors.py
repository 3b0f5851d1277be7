"""The errors people meet: input that is wrong, and settings that are wrong.

They are apart because a command line answers them with different exit statuses (1 and 2).
"""


class DataError(ValueError):
    """Input data is not what was expected: the message names the place, the finding and the way out."""


class TruthError(DataError):
    """A file of true labels cannot be read, or is not that of the pictures it was given with."""


class UsageError(ValueError):
    """A setting is out of its range or contradicts another; the message names both and the way out."""
