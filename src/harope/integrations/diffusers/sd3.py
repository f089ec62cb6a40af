"""Stable Diffusion 3 and 3.5 (MMDiT)."""

from harope.integrations._patches import PatchEmbedIntegration
from harope.integrations.base import Layer, Model, is_a


class SD3Integration(PatchEmbedIntegration):
    """Joint attention of image and text; SD3.5 has a second attention over the image alone."""

    title = "diffusers' SD3Transformer2DModel"

    def matches(self, model: Model) -> bool:
        return is_a(model, "diffusers.models.transformers.transformer_sd3.SD3Transformer2DModel")

    def layers(self, model: Model) -> list[Layer]:
        config = model.config
        found = []
        for index, block in enumerate(model.transformer_blocks):
            for name in ("attn", "attn2"):
                attention = getattr(block, name, None)
                if attention is not None:
                    path = f"transformer_blocks.{index}.{name}"
                    sizes = config.num_attention_heads, config.attention_head_dim
                    found.append(Layer(path, attention, *sizes))
        return found
