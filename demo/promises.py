"""What the demo promises of its table, all in one place; the figures are counts of sounds."""

from collections.abc import Mapping
from typing import NamedTuple

GENERATED, REAL, SHUFFLED, UNTRAINED = "generated", "real", "prompts shuffled", "untrained net"
AFTER, BEFORE, NEW_REAL = "after training", "before training", "real, held out"
NEW_SHUFFLED, OTHERS = "after, prompts shuffled", "others heard as the new"


class Promise(NamedTuple):
    """A bar that a figure keeps.

    Attributes:
        bar: the figure is at least, or with `most` at most, so much.
        margin: by how much more it kept the bar at each of the seeds 0, 1 and 2 when the bar was set.
        most: whether the bar is an upper one, as for what must fail.
    """

    bar: int
    margin: int
    most: bool = False

    def kept(self, figure: int) -> bool:
        return figure <= self.bar if self.most else figure >= self.bar

    def __str__(self) -> str:
        return f"at {'most' if self.most else 'least'} {self.bar}"


# By row and column of the table. Margins are 0 where no three seeds have been measured yet.
PROMISES: Mapping[tuple[str, str], Promise] = {
    (REAL, "pitch"): Promise(11, 0),
    (REAL, "instrument"): Promise(10, 0),
    (GENERATED, "pitch"): Promise(10, 0),
    (GENERATED, "instrument"): Promise(7, 0),
    (SHUFFLED, "pitch"): Promise(3, 0, most=True),
    (SHUFFLED, "instrument"): Promise(3, 0, most=True),
    (UNTRAINED, "pitch"): Promise(3, 0, most=True),
    (UNTRAINED, "instrument"): Promise(3, 0, most=True),
    (NEW_REAL, "pitch"): Promise(11, 0),
    (NEW_REAL, "instrument"): Promise(11, 0),
    (OTHERS, "instrument"): Promise(2, 0, most=True),
    (BEFORE, "instrument"): Promise(3, 0, most=True),
    (AFTER, "pitch"): Promise(9, 0),
    (AFTER, "instrument"): Promise(9, 0),
    (NEW_SHUFFLED, "pitch"): Promise(3, 0, most=True),
}
