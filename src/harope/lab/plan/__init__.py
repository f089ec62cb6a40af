"""Memory, speed and price of a training on a card that need not be here."""
