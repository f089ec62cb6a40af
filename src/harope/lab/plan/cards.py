"""Graphics cards: memory, peak rates, bandwidths, power, and a price per hour.

Memory, rates and power are those of NVIDIA's data sheets: dense rates without sparsity, in bfloat16
with float32 accumulation, of the SXM form where there is one. Prices are round figures of rented
cards in 2025, without contracts, and only as good as that: `harope plan --price` replaces them.
"""

from dataclasses import dataclass

from harope._utils.suggestions import suggest

GIB = 2**30
"""Bytes of a GiB."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A graphics card."""

    name: str
    """Name on the command line."""
    memory_gib: float
    """Memory in GiB."""
    bf16_tflops: float
    """Dense tensor core peak in bfloat16 and float16, in 10^12 operations per second."""
    fp32_tflops: float
    """Peak in float32 without tensor cores, in 10^12 operations per second."""
    bandwidth_gbs: float
    """Bandwidth of its memory, in 10^9 bytes per second."""
    watts: float
    """Largest power draw in watts."""
    link_gbs: float
    """Bandwidth to the other cards of a machine, in 10^9 bytes per second and direction: NVLink, or
    the PCIe slot."""
    network_gbs: float
    """Bandwidth between machines of eight cards, in 10^9 bytes per second and direction: an adapter
    of 400 Gbit/s for each card in a data centre, one of 25 Gbit/s for all of them otherwise."""
    price: float
    """Dollars per hour."""

    def peak_flops(self, precision: str) -> float:
        """Return the peak rate of matrix products.

        Args:
            precision: Mixed precision of a training: "bf16", "fp16" or "no" (float32).

        Returns:
            Operations per second, two per multiplication and addition.
        """
        return 1e12 * (self.fp32_tflops if precision == "no" else self.bf16_tflops)


_COLUMNS = (
    "memory_gib", "bf16_tflops", "fp32_tflops", "bandwidth_gbs", "watts", "link_gbs", "network_gbs",
    "price",
)  # fmt: skip
_TABLE: dict[str, tuple[float, ...]] = {
    "rtx-3090": (24, 71.0, 35.6, 936, 350, 32, 3.1, 0.25),
    "rtx-4090": (24, 165.2, 82.6, 1008, 450, 32, 3.1, 0.40),
    "rtx-5090": (32, 209.5, 104.8, 1792, 575, 64, 3.1, 0.70),
    "l40s": (48, 362.0, 91.6, 864, 350, 32, 3.1, 1.00),
    "a100-40": (40, 312.0, 19.5, 1555, 400, 300, 400, 1.20),
    "a100-80": (80, 312.0, 19.5, 2039, 400, 300, 400, 1.60),
    "h100": (80, 989.4, 66.9, 3350, 700, 450, 400, 2.50),
    "h200": (141, 989.4, 66.9, 4800, 700, 450, 400, 3.50),
    "b200": (180, 2250.0, 75.0, 8000, 1000, 900, 400, 5.00),
}

CARDS: dict[str, Card] = {
    name: Card(name=name, **dict(zip(_COLUMNS, map(float, values), strict=True)))
    for name, values in _TABLE.items()
}
"""Cards by name."""

CARDS_PER_MACHINE = 8
"""Cards that the links connect; further ones are in other machines."""


def get_card(name: str) -> Card:
    """Look up a card by name.

    Args:
        name: Name such as "h100".

    Returns:
        The card.

    Raises:
        ValueError: If the name is unknown; the message suggests the nearest known one.
    """
    if name not in CARDS:
        raise ValueError(f"card {name!r} is unknown: {suggest(name, CARDS)}")
    return CARDS[name]
