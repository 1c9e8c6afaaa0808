"""The one shape of an error that a person has to mend."""

import difflib
from collections.abc import Iterable

_SHOWN = 80


def bounded(value: object, limit: int = _SHOWN) -> str:
    """`repr(value)`, cut to `limit` characters, so that no message grows with the data."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def listed(names: Iterable[object], limit: int = 8) -> str:
    """Names for a sentence: the first `limit`, then how many more there are."""
    shown = [str(name) for name in names]
    rest = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {rest} more" if rest > 0 else "")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be, whatever its case; or None."""
    others = {str(other).lower(): str(other) for other in known if other != name}
    matches = difflib.get_close_matches(name.lower(), others, n=1, cutoff=0.6)
    return others[matches[0]] if matches else None


class EtlMlError(Exception):
    """What failed, and for the person who must fix it: what was seen, where, and what to do next.

    Parameters
    ----------
    what : one sentence that names what failed
    seen : the offending value, bounded, or where it was seen
    where : the file, table or configuration key that it came from
    close : the valid name nearest to the one that was seen
    fix : the next step

    Attributes
    ----------
    heals : whether the same may succeed later without anybody's doing
    """

    heals: bool = False

    def __init__(
        self,
        what: str,
        *,
        seen: str | None = None,
        where: str | None = None,
        close: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what, self.seen, self.where, self.close, self.fix = what, seen, where, close, fix

    def __str__(self) -> str:
        lines = {"seen": self.seen, "where": self.where, "nearest": self.close, "fix it": self.fix}
        return "\n".join(
            [self.what, *(f"  {name:<9} {text}" for name, text in lines.items() if text)]
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Keep every part when the error crosses a process boundary."""
        return _rebuild, (type(self), self.what, self.seen, self.where, self.close, self.fix)


def _rebuild(
    kind: type[EtlMlError],
    what: str,
    seen: str | None,
    where: str | None,
    close: str | None,
    fix: str | None,
) -> EtlMlError:
    return kind(what, seen=seen, where=where, close=close, fix=fix)
