"""When a message that was not taken is tried again, and when it is given up. Plain values and functions."""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_DELAY_S = 2.0
MOST_DELAY_S = 900.0


@dataclass(frozen=True, slots=True)
class Retries:
    """Growing delays with jitter, up to a number of tries and of hours."""

    tries: int
    give_up_s: float
    first_s: float = FIRST_DELAY_S
    most_s: float = MOST_DELAY_S

    def delay_s(self, attempts: int, jitter: random.Random) -> float:
        """Seconds until the next try after `attempts` ones failed: doubled each time, between half and whole of it.

        Jitter keeps many messages, or many machines, from coming back at the same moment.
        """
        whole_s: float = min(self.most_s, self.first_s * 2.0 ** min(attempts - 1, 30))
        return whole_s * jitter.uniform(0.5, 1.0)

    def end(self, attempts: int, age_s: float) -> str:
        """Why a message is given up after `attempts` tries and `age_s` seconds; empty if it is not."""
        if attempts >= self.tries:
            return f"given up after {attempts} tries, which is the limit (tries)"
        if age_s >= self.give_up_s:
            return f"given up after {age_s / 3600:.1f} hours; {self.give_up_s / 3600:g} is the limit (give_up_hours)"
        return ""
