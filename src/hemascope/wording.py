"""How numbers and lists are said, so that a sentence is right for one as well as for many."""

from __future__ import annotations

from collections.abc import Sequence


def many(count: int, one: str, more: str | None = None) -> str:
    """A count and what is counted: "1 picture", "1,200 pictures".

    more: the word for several, where it is not that for one with an s; many(1, "row is", "rows are") has a verb, too.
    """
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def every(count: int, one: str, more: str | None = None) -> str:
    """All of some things: "all 1,200 pictures", and "the one picture" where there is no more; more: as in `many`."""
    return f"the one {one}" if count == 1 else f"all {many(count, one, more)}"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them: "a, b and c"; nothing for none."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def capitalised(text: str) -> str:
    """With a capital at its beginning; the rest stays, so that JPEG stays JPEG."""
    return text[:1].upper() + text[1:]


def first_line(error: BaseException) -> str:
    """What an error of a library says in its first line, without the full stop; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def install(extra: str) -> str:
    """The command that brings an optional part of hemascope, which is installed from its folder."""
    return f"pip install '.[{extra}]' in the folder of hemascope"
