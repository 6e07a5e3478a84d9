"""What the demo promises of its table, all in one place; the figures are counts of sounds."""

from collections.abc import Mapping
from typing import NamedTuple

GENERATED, REAL, SHUFFLED, UNTRAINED = "generated", "real", "prompts shuffled", "untrained net"
AFTER, BEFORE, NEW_REAL = "after training", "before training", "real, held out"
KEPT = "generated, after training"
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


# By row and column of the table, as seed 0 kept them; margins are 0 until three seeds have been measured. What is not
# here is not promised: the bundled model plays few instruments as the judge knows them, as its codec weakens partials
# above 2 kHz, and what learns a new instrument forgets pitches (3 of 12 were right after, 10 before).
PROMISES: Mapping[tuple[str, str], Promise] = {
    (REAL, "pitch"): Promise(11, 0),
    (REAL, "instrument"): Promise(10, 0),
    (GENERATED, "pitch"): Promise(7, 0),
    (SHUFFLED, "pitch"): Promise(3, 0, most=True),
    (SHUFFLED, "instrument"): Promise(3, 0, most=True),
    (UNTRAINED, "pitch"): Promise(3, 0, most=True),
    (UNTRAINED, "instrument"): Promise(3, 0, most=True),
    (NEW_REAL, "pitch"): Promise(11, 0),
    (NEW_REAL, "instrument"): Promise(11, 0),
    (OTHERS, "instrument"): Promise(3, 0, most=True),
    (BEFORE, "instrument"): Promise(3, 0, most=True),
    (AFTER, "instrument"): Promise(6, 0),
    (NEW_SHUFFLED, "pitch"): Promise(3, 0, most=True),
}
