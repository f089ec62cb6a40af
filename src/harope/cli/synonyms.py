"""Options of other training scripts, as users of them type them.

The names are those of diffusers' training scripts, timm's `train.py`, the Trainer of transformers,
accelerate, and facebookresearch/DiT. A name is understood if it has exactly the meaning and the
unit of a name here, so that a command that is pasted from elsewhere does what it says. Any other is
answered, because a near miss, such as a batch size per device, would train something else than what
was asked for.
"""

_UNDERSTOOD = {
    "learning-rate": "lr",
    "max-train-steps": "steps",
    "max-steps": "steps",
    "train-steps": "steps",
    "output-dir": "out",
    "outdir": "out",
    "output": "out",
    "results-dir": "out",
    "resolution": "image_size",
    "img-size": "image_size",
    "mixed-precision": "precision",
    "checkpointing-steps": "checkpoint_every",
    "save-steps": "checkpoint_every",
    "ckpt-every": "checkpoint_every",
    "checkpoints-total-limit": "keep_checkpoints",
    "save-total-limit": "keep_checkpoints",
    "checkpoint-hist": "keep_checkpoints",
    "lr-warmup-steps": "warmup_steps",
    "train-data-dir": "data.root",
    "instance-data-dir": "data.root",
    "data-dir": "data.root",
    "data-path": "data.root",
    "opt": "optimizer.name",
    "adam-weight-decay": "weight_decay",
    "max-grad-norm": "clip_norm",
    "clip-grad": "clip_norm",
    "dataloader-num-workers": "num_workers",
    "guidance-scale": "guidance",
    "cfg": "guidance",
    "cfg-scale": "guidance",
    "num-inference-steps": "num_steps",
    "num-sampling-steps": "num_steps",
    "validation-steps": "sample_every",
    "num-validation-images": "num_samples",
    "logging-steps": "log_every",
    "log-interval": "log_every",
    "log-every-n-steps": "log_every",
    "model-ema-decay": "ema_decay",
    "initial-checkpoint": "init",
    "drop-path-rate": "drop_path",
    "smoothing": "label_smoothing",
    "torch-compile": "compile",
    "lora-rank": "rank",
    "lora-alpha": "alpha",
    "caption-column": "text_column",
    "dataset-config-name": "subset",
    "first-seed": "seed",
}
"""Options here by the names elsewhere that mean the same."""

_EPOCHS = "there are no epochs here: pass --steps with epochs x images / batch_size"
_BATCH = (
    "that is a batch per device; --batch_size here is all images of an optimizer step, over "
    "devices and micro-batches: pass --batch_size and, to save memory, --accumulation"
)
_ACCUMULATION = (
    "that multiplies the batch; here --batch_size is all images of an optimizer step, and "
    "--accumulation N only splits it: pass both"
)
_SCHEDULE = (
    "write --optimizer.decay FRACTION, the part of the steps over which the rate falls to 0, and "
    "--optimizer.decay_shape linear or cosine; --warmup_steps N for the warm-up"
)
_BETAS = "write both at once: --betas 0.9,0.999"
_EPSILON = "epsilon is that of PyTorch, 1e-8: omit it"
_HALF = "write --precision fp16 or --precision bf16"
_RESUME = "write harope train --resume RUN, or repeat the command of the run"
_OMIT = "there is no such option here: omit it"
_HUB = "write --push_to_hub USER/NAME"
_NO_NEGATIVE_PROMPT = "there are no negative prompts: the unconditional model sees the empty prompt"

_ANSWERED = {
    "train-batch-size": _BATCH,
    "per-device-train-batch-size": _BATCH,
    "global-batch-size": "write --batch_size, which is over all devices",
    "validation-batch-size": _OMIT,
    "per-device-eval-batch-size": _OMIT,
    "per-proc-batch-size": "write --batch-size",
    "gradient-accumulation-steps": _ACCUMULATION,
    "grad-accum-steps": _ACCUMULATION,
    "num-train-epochs": _EPOCHS,
    "num-epochs": _EPOCHS,
    "epochs": _EPOCHS,
    "warmup-epochs": "there are no epochs here: pass --warmup_steps with epochs x images / "
    "batch_size",
    "warmup-ratio": "that is a fraction of the training: pass --warmup_steps with ratio x steps",
    "lr-scheduler": _SCHEDULE,
    "lr-scheduler-type": _SCHEDULE,
    "sched": _SCHEDULE,
    "lr-num-cycles": _SCHEDULE,
    "lr-power": _SCHEDULE,
    "min-lr": "the rate falls to 0 at the end of --optimizer.decay: omit it",
    "scale-lr": "the rate does not depend on the number of devices: omit it",
    "adam-beta1": _BETAS,
    "adam-beta2": _BETAS,
    "opt-betas": _BETAS,
    "momentum": _BETAS,
    "adam-epsilon": _EPSILON,
    "opt-eps": _EPSILON,
    "optim": "write --optimizer.name adamw or --optimizer.name muon",
    "use-8bit-adam": _OMIT,
    "fp16": _HALF,
    "bf16": _HALF,
    "amp": _HALF,
    "amp-dtype": _HALF,
    "allow-tf32": _OMIT,
    "enable-xformers-memory-efficient-attention": "attention is PyTorch's fused one: omit it",
    "resume-from-checkpoint": _RESUME,
    "auto-resume": _RESUME,
    "workers": "write --num_workers",
    "use-ema": "averaged weights are always kept: omit it, or set --ema_decay",
    "model-ema": "averaged weights are always kept: omit it, or set --ema_decay",
    "no-ema": "write --ema_decay 0",
    "center-crop": "images are cropped at the centre unless --data.random_crop is set: omit it",
    "hflip": "write --data.random_flip true or false",
    "no-hflip": "write --data.random_flip false",
    "scale": "write --data.random_crop with the smallest fraction of the area, such as 0.08",
    "model-name": "the recipe chooses the model, see `harope recipes`; its sizes are --model.width "
    "and others",
    "pretrained-model-name-or-path": "write --init FROM with a run or checkpoint, or "
    "--model.pretrained with a pipeline",
    "dataset-name": "write --data.kind hub --data.root ID, or --data.kind folder --data.root DIR",
    "dataset": "write --data.kind and --data.root, see `harope train RECIPE --help`",
    "max-train-samples": "pass a folder with fewer images as --data.root",
    "cache-dir": "set the environment variable HF_HOME",
    "logging-dir": "events for TensorBoard are in RUN/tensorboard: omit it",
    "log-wandb": "write --report_to wandb",
    "tracker-project-name": _OMIT,
    "hub-model-id": _HUB,
    "hub-token": "log in with `hf auth login`, or set HF_TOKEN",
    "validation-prompt": "write --prompts '[\"a red circle\"]'",
    "validation-prompts": 'write --prompts \'["a red circle", "two squares"]\'',
    "validation-epochs": "write --sample_every N, in steps",
    "proportion-empty-prompts": "write --caption_dropout",
    "class-dropout-prob": "write --label_dropout",
    "torchcompile": "write --compile",
    "num-processes": "write torchrun --nproc_per_node N -m harope train RECIPE",
    "num-gpus": "write torchrun --nproc_per_node N -m harope train RECIPE",
    "fsdp": "write --parallel fsdp, under torchrun",
    "use-fsdp": "write --parallel fsdp, under torchrun",
    "sharding-strategy": "write --parallel fsdp, under torchrun",
    "streaming": "write --data.kind stream --data.root ID",
    "device": "the GPU is used if there is one; CUDA_VISIBLE_DEVICES selects it",
    "negative-prompt": _NO_NEGATIVE_PROMPT,
    "num-images-per-prompt": "write --samples-per-prompt",
    "num-fid-samples": "write --count",
    "num-images": "write --count",
    "strength": _OMIT,
    "eta": _OMIT,
    "scheduler": "write --sampler",
    "ckpt": "pass the run or checkpoint without an option: harope sample RUN",
    "checkpoint": "pass the run or checkpoint without an option: harope sample RUN",
}
"""What to do instead, by names elsewhere without an exact equivalent."""


def find_synonym(name: str) -> str | None:
    """Find the name here of an option of another tool.

    Args:
        name: Option as typed, such as `--learning_rate`.

    Returns:
        Name of the option or field here, without dashes in front; None if `name` is no known option
        of another tool.

    Raises:
        ValueError: If the option has no exact equivalent; says what to do instead.
    """
    key = name.removeprefix("--").replace("_", "-").lower()
    if (answer := _ANSWERED.get(key)) is not None:
        raise ValueError(f"{name} is not an option here: {answer}")
    return _UNDERSTOOD.get(key)
