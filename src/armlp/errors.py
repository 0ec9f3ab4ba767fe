"""The one exception that a user's mistake ends in."""

from typing import Any


class UserError(ValueError):
    """A mistake that the user can mend.

    Its message is one sentence that names the file, series, column or option, says what was found and
    what is needed, and gives the fix. Options stand
    between backticks by their plain names, such as `horizon`; the command line spells them as it takes them
    (`--data.horizon`), prints the sentence without a traceback and exits with 2.
    """

    def __init__(self, sentence: str) -> None:
        # Names out of tables may hold line breaks, or what moves a terminal's cursor.
        super().__init__("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in sentence))


def one_line(error: Exception) -> str:
    """What an exception of a library says, short enough for the middle of a sentence."""
    return " ".join(str(error).split())[:160].rstrip(".")


def first_names(names: Any, max_names: int = 3) -> str:
    """Return the first of a sequence of names, quoted, and how many more there are."""
    more = f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return ", ".join(f"'{name}'" for name in names[:max_names]) + more


# Of larger numbers the products would leave 64 bits; no data could have a use for them.
LARGEST = 2**31 - 1
# A seed of numpy, and so of Lightning.
LARGEST_SEED = 2**32 - 1


def check_bounds(option: str, value: float | int | None, least: float, most: float = LARGEST) -> None:
    """Raise a UserError for a number that is too small or too large; None passes.

    Raises:
        UserError: Naming the option.
    """
    if value is not None and value < least:
        raise UserError(f"`{option}`: {value} is too small; it must be at least {least}.")
    if value is not None and value > most and (isinstance(value, int) or most < LARGEST):
        raise UserError(f"`{option}`: {value} is too large; it must be at most {most}.")
