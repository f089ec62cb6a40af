"""What the heads of a trained model learned, and what its layers cost."""
