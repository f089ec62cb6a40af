"""What an attention block costs: parameters and multiply-adds, exact, by formula.

With N tokens, width D, H heads of d = D / H channels, one image, biases in both projections:

    parameters of attention   4 D^2 + 4 D
    parameters of a basis     per matrix (H of them, or 1): svd d^2, orthogonal d (d - 1) / 2,
                              diagonal d, free d^2, identity and fourier 0
    ... of frequencies        axial, learned: H d / 2; mixed: n H d / 2; circulant: n H d (n axes)
    projections               4 N D^2        queries, keys, values, output
    scores and sums           2 N^2 D        q . k, and attention times values
    basis on the tokens       2 N D d        A q and A k of every token
    basis on the weights      2 D d (D + 1)  A W and A b, whatever the number of tokens and images
    basis folded              0              A W stands in W's place
    rotation                  4 N D          four multiplications a pair of queries and of keys

The matrices themselves are made once and kept while nothing trains, so they do not count. A
multiply-add is two of the operations that FlopCounterMode of torch counts, which leaves out what
is no matrix product, the rotation.
"""

from dataclasses import dataclass

from harope.rope import EncodingConfig


@dataclass(frozen=True, kw_only=True)
class AttentionCost:
    """Multiply-adds of one attention block on one image."""

    projections: int
    """Of queries, keys, values and output."""
    scores: int
    """Queries times keys, and attention times values."""
    basis_on_tokens: int
    """A where a norm or few tokens keep it off the weights; 0 without a basis."""
    basis_on_weights: int
    """A where it meets the weights at every step of a training; 0 without a basis."""
    rotation: int
    """Of queries and keys; 0 where nothing rotates."""

    @property
    def plain(self) -> int:
        """Without an encoding, or with one that was folded, but for its rotation."""
        return self.projections + self.scores


def attention_cost(
    *, tokens: int, width: int, num_heads: int, has_basis: bool, rotates: bool
) -> AttentionCost:
    """The formulas above.

    Args:
        tokens: all tokens that attend, those without a place among them.
        width: channels of all heads together.
        num_heads: heads.
        has_basis: whether queries and keys meet matrices.
        rotates: whether the encoding turns them.

    Raises ValueError where the width is not a multiple of num_heads.
    """
    if width % num_heads:
        raise ValueError(f"width {width} is not a multiple of num_heads {num_heads}")
    head_dim = width // num_heads
    return AttentionCost(
        projections=4 * tokens * width**2,
        scores=2 * tokens**2 * width,
        basis_on_tokens=2 * tokens * width * head_dim if has_basis else 0,
        basis_on_weights=2 * width * head_dim * (width + 1) if has_basis else 0,
        rotation=4 * tokens * width if rotates else 0,
    )


def attention_parameters(width: int) -> int:
    """Weights and biases of the packed projection and of the output's."""
    return 4 * width * (width + 1)


def count_encoding_parameters(
    config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
) -> int:
    """Learned numbers of one layer's rotary encoding: its basis and its frequencies."""
    matrix = {
        "svd": head_dim**2,
        "orthogonal": head_dim * (head_dim - 1) // 2,
        "diagonal": head_dim,
        "free": head_dim**2,
    }.get(config.basis, 0)
    heads = num_heads * head_dim
    spectrum = {
        "axial": heads // 2 if config.learned_frequencies else 0,
        "mixed": num_axes * heads // 2,
        "circulant": num_axes * heads,
    }.get(config.frequencies, 0)
    return matrix * (num_heads if config.per_head else 1) + spectrum
