"""The exception for mistakes of the user, and helpers for its messages."""

from typing import Any


class UserError(ValueError):
    """A mistake that the user can correct.

    Its message is one sentence that names the file, series, column or option, says what was found and what is needed,
    and gives the fix. Options stand in backticks by their plain names, such as `horizon`; the command line replaces
    them by its own spelling (`--data.horizon`), prints the sentence without a traceback and exits with 2.
    """

    def __init__(self, sentence: str) -> None:
        # Names from tables may hold line breaks or control characters of a terminal.
        super().__init__("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in sentence))


def short_message(error: Exception) -> str:
    """Return the message of a library's exception on one line of at most 160 characters."""
    return " ".join(str(error).split())[:160].rstrip(".")


def first_names(names: Any, max_names: int = 3) -> str:
    """Return the first of a sequence of names, quoted, and the number of the others."""
    more = f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return ", ".join(f"'{name}'" for name in names[:max_names]) + more


LARGEST = 2**31 - 1  # products of larger numbers overflow 64 bits
LARGEST_SEED = 2**32 - 1  # of numpy, and so of Lightning


def check_bounds(option: str, value: float | int | None, least: float, most: float = LARGEST) -> None:
    """Raise a UserError if a number is outside of its bounds; None passes."""
    if value is not None and value < least:
        raise UserError(f"`{option}`: {value} is too small; it must be at least {least}.")
    if value is not None and value > most and (isinstance(value, int) or most < LARGEST):
        raise UserError(f"`{option}`: {value} is too large; it must be at most {most}.")
