"""Configuration of the demo."""

from dataclasses import dataclass

from harope._utils.field_checks import AT_LEAST_ONE, check_range


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How long the demo trains, and how many samples it makes."""

    steps: int = 130
    """Training steps of the matrices in the released model."""
    batch_size: int = 32
    """Images per training step of the matrices."""
    lr: float = 3e-3
    """Learning rate of the matrices."""
    digit_steps: int = 800
    """Training steps of the model that learns digits from nothing."""
    rounds: int = 2
    """Scored samples of each of the 30 pairs of kind and colour as a single object; as many again
    show several objects."""
    num_steps: int = 12
    """Sampling steps."""
    pictures: int = 12
    """Pictures that are shown of each model."""
    images: int = 12
    """Scenes on which attention is measured."""
    held_out: int = 96
    """Scenes, not used in training, on which the loss is measured."""
    repeats: int = 31
    """Measurements of the time of a forward pass."""

    def __post_init__(self) -> None:
        check_range(self, AT_LEAST_ONE, "steps", "batch_size", "digit_steps", "rounds")
        check_range(self, AT_LEAST_ONE, "num_steps", "pictures", "images", "repeats")
        if self.held_out < 2:
            raise ValueError(f"held_out {self.held_out} must be at least 2 for an interval")
        if not 0 < self.lr < 1:
            raise ValueError(f"lr {self.lr} must lie in (0, 1)")
