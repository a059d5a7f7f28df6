"""Recognises early that a training has collapsed, and says what the likely cause is."""

from dataclasses import dataclass, field

from seglib.config import RunConfig
from seglib.metrics.overlap import Counts

# A loss is compared with what it was over the first so many steps; beyond so many times that it has exploded.
FIRST_STEPS = 20
EXPLODED = 3.0
# So many judgements in a row have to agree, and so many steps to be done, before a run counts as stuck.
PATIENCE = 3
LEAST_STEPS = 100
NOTHING, EVERYTHING = 1e-6, 0.999
RARE = 0.01
FAST = 3e-3
# Each new attempt has other random numbers and so much of the learning rate.
SEED_STEP = 7919
RATE_SHARE = 0.3


@dataclass
class Watch:
    """Is told of every step and every judgement, and answers with a sentence where a run has collapsed.

    learning_rate: of the run, which the likely cause depends on. first, recent: mean losses; seen: steps so far.
    stuck: judgements in a row without a right voxel; same: in a row with the same answer everywhere.
    """

    learning_rate: float
    first: float = 0.0
    recent: float = 0.0
    seen: int = 0
    stuck: int = 0
    same: int = 0
    _told: set[str] = field(default_factory=set)

    def after_step(self, loss: float) -> str | None:
        """Looks at the loss of one step, which must be finite; a sentence where losses have exploded."""
        self.seen += 1
        if self.seen <= FIRST_STEPS:
            self.first += loss / FIRST_STEPS
            self.recent = self.first
            return None
        self.recent += (loss - self.recent) / FIRST_STEPS
        if self.recent <= EXPLODED * abs(self.first) + 1e-3:
            return None
        return self._once(
            f"The loss explodes: it is {self.recent:.3g}, {self.recent / max(abs(self.first), 1e-9):.0f} times what it "
            f"was at the start. The learning rate ({self.learning_rate:.1e}) is probably too high: try a tenth."
        )

    def after_judgement(self, counts: Counts, voxels: int, *, what: str) -> str | None:
        """Looks at what was found; a sentence where it has been nothing, or everything, several times in a row.

        counts: per class, over `voxels` annotated ones; what: that they are of, such as “the validation part”.
        """
        truth, found = int((counts.hits + counts.misses).sum()), int((counts.hits + counts.false_alarms).sum())
        if not truth or not voxels:
            return None
        share = found / voxels
        self.stuck = self.stuck + 1 if not counts.hits.any() else 0
        self.same = self.same + 1 if share < NOTHING or share > EVERYTHING else 0
        if max(self.stuck, self.same) < PATIENCE or self.seen < LEAST_STEPS:
            return None
        if share > EVERYTHING:
            said = f"The network calls every voxel of {what} foreground"
        elif share < NOTHING:
            said = f"Dice is stuck at 0: the network finds nothing in {what}"
        else:
            said = f"Dice is stuck at 0: what the network finds in {what} is never where the labels are"
        return self._once(f"{said}, {max(self.stuck, self.same)} times in a row. {self._cause(truth / voxels)}")

    def _cause(self, foreground: float) -> str:
        if foreground < RARE:
            return (
                f"Only {100 * foreground:.2g} % of it is foreground: centre more patches on what is labelled, and use "
                "a loss with Dice in it."
            )
        if self.learning_rate > FAST:
            return f"The learning rate ({self.learning_rate:.1e}) is probably too high: try a tenth."
        return "Look whether labels lie on the image where they should, or start again with another seed."

    def _once(self, text: str) -> str | None:
        """The sentence, the first time only that this kind of thing is said."""
        kind = text.split(":")[0]
        if kind in self._told:
            return None
        self._told.add(kind)
        return text

    def state(self) -> dict[str, object]:
        """What `from_state` needs to go on; plain numbers and texts."""
        numbers = {name: getattr(self, name) for name in ("first", "recent", "seen", "stuck", "same")}
        return {**numbers, "told": sorted(self._told)}

    @classmethod
    def from_state(cls, learning_rate: float, state: dict[str, object]) -> "Watch":
        """A watch that goes on from what `state` gave."""
        told = state.pop("told", [])
        assert isinstance(told, list)
        return cls(learning_rate, **state, _told=set(told))  # type: ignore[arg-type]


def not_finite(value: float, step: int, rate: float) -> str:
    """What is said where a loss is not a number. step: counted from 1."""
    return (
        f"The loss became {value} at step {step}. Usual causes: a learning rate that is too high (it is {rate:.1e}; "
        "try a tenth) or broken grey values."
    )


def restarted(config: RunConfig, restarts: int) -> RunConfig:
    """The config of an attempt: other random numbers and a lower learning rate after each collapse."""
    if not restarts:
        return config
    rate = config.optimiser.learning_rate * RATE_SHARE**restarts
    return config.model_copy(
        update={
            "length": config.length.model_copy(update={"seed": (config.length.seed + SEED_STEP * restarts) % 2**31}),
            "optimiser": config.optimiser.model_copy(update={"learning_rate": rate}),
        }
    )
