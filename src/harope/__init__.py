"""Head-wise adaptive rotary positional encoding (HARoPE) for image transformers."""
