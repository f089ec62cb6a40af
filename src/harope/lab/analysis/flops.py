"""What an attention block costs in multiply-adds, exact, by formula.

With N tokens, width D, H heads of d = D / H channels, one image:

    projections               4 N D^2        queries, keys, values, output
    scores and sums           2 N^2 D        q . k, and attention times values
    basis on the tokens       2 N D d        A q and A k of every token
    basis on the weights      2 D d (D + 1)  A W and A b, whatever the number of tokens and images
    basis folded              0              A W stands in W's place
    rotation                  4 N D          four multiplications a pair of queries and of keys

Joint attention (MMDiT, arXiv 2403.03206) has T tokens of text beside them, with projections of
their own: 4 T D^2, or 3 T D^2 where no text goes on after the block; N + T tokens in scores and in
the basis on the tokens; the basis on the weights twice. Text is not rotated.

The matrices themselves are made once and kept while nothing trains, so they do not count. A
multiply-add is two of the operations that FlopCounterMode of torch counts, which leaves out what
is no matrix product, the rotation.
"""

from dataclasses import dataclass


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
    *,
    tokens: int,
    width: int,
    num_heads: int,
    has_basis: bool,
    rotates: bool,
    text_tokens: int = 0,
    has_text_output: bool = True,
) -> AttentionCost:
    """The formulas above.

    Args:
        tokens: all tokens that attend, those without a place among them, but for text_tokens.
        width: channels of all heads together.
        num_heads: heads.
        has_basis: whether queries and keys meet matrices.
        rotates: whether the encoding turns them.
        text_tokens: those that have projections of their own.
        has_text_output: whether theirs have an output.

    Raises ValueError where the width is not a multiple of num_heads.
    """
    if width % num_heads:
        raise ValueError(f"width {width} is not a multiple of num_heads {num_heads}")
    head_dim, together = width // num_heads, tokens + text_tokens
    no_output = 0 if has_text_output else text_tokens
    on_weights = 2 * width * head_dim * (width + 1) * (2 if text_tokens else 1)
    return AttentionCost(
        projections=(4 * together - no_output) * width**2,
        scores=2 * together**2 * width,
        basis_on_tokens=2 * together * width * head_dim if has_basis else 0,
        basis_on_weights=on_weights if has_basis else 0,
        rotation=4 * tokens * width if rotates else 0,
    )
