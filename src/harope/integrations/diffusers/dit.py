"""diffusers' DiT."""

from harope.integrations._patches import PatchEmbedIntegration
from harope.integrations.base import Layer, Model, is_a


class DiffusersDiTIntegration(PatchEmbedIntegration):
    """Class-conditional DiT, which takes square inputs only."""

    title = "diffusers' DiTTransformer2DModel"

    def matches(self, model: Model) -> bool:
        return is_a(model, "diffusers.models.transformers.dit_transformer_2d.DiTTransformer2DModel")

    def layers(self, model: Model) -> list[Layer]:
        config = model.config
        return [
            Layer(
                f"transformer_blocks.{index}.attn1",
                block.attn1,
                config.num_attention_heads,
                config.attention_head_dim,
            )
            for index, block in enumerate(model.transformer_blocks)
        ]
