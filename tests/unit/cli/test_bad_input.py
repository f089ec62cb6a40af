"""Bad input on the command line: one line that says what is wrong, exit code 2, nothing left."""

import importlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import harope
from harope.cli.main import main

RELEASED = Path(harope.__file__).parent / "lab/checkpoints/scenes-dit-axial"

CASES = """
trian  ->  command 'trian' is unknown: did you mean 'train'?
harope  ->  command 'harope' is unknown
--foo train  ->  unrecognized arguments: --foo
train --frobnicate  ->  no recipe is given
--log-level loud train scenes-dit  ->  argument --log-level: invalid choice: 'loud'
train  ->  no recipe is given
train scene-dit  ->  recipe 'scene-dit' is unknown: did you mean 'scenes-dit'?
train scenes_dit  ->  recipe 'scenes_dit' is unknown: did you mean 'scenes-dit'?
train scenes-dit extra  ->  unrecognized arguments: extra
train scenes-dit --lr  ->  field --lr has no value
train scenes-dit --lr fast --out run  ->  optimizer.lr
train scenes-dit --lr nan --out run  ->  optimizer: lr nan must be positive and finite
train scenes-dit --lr inf --out run  ->  optimizer: lr inf must be positive and finite
train scenes-dit --lr 0 --out run  ->  optimizer: lr 0.0 must be positive and finite
train scenes-dit --lr -1 --out run  ->  optimizer: lr -1.0 must be positive and finite
train scenes-dit --steps 0 --out run  ->  steps 0 must be at least 1 and finite
train scenes-dit --steps 1.5 --out run  ->  steps
train scenes-dit --steps true --out run  ->  steps
train scenes-dit --steps -5 --out run  ->  steps -5 must be at least 1 and finite
train scenes-dit --batch-size 0 --out run  ->  batch_size 0 must be at least 1 and finite
train scenes-dit --batch-size 10 --accumulation 3 --out run  ->  batch_size 10 is not a multiple o
train scenes-dit --ema_decay 2 --out run  ->  ema_decay 2.0 must lie in [0, 1)
train scenes-dit --ema_decay 1.0 --out run  ->  ema_decay 1.0 must lie in [0, 1)
train scenes-dit --precision fp8 --out run  ->  precision
train scenes-dit --compile maybe --out run  ->  compile
train scenes-dit --optimizer.name sgd --out run  ->  optimizer.name
train scenes-dit --opt lion --out run  ->  optimizer.name
train scenes-dit --betas 0.9 --out run  ->  optimizer.betas
train scenes-dit --betas 0.9,x --out run  ->  optimizer.betas
train scenes-dit --betas 0.9,1.5 --out run  ->  optimizer: betas
train scenes-dit --betas [0.9 --out run  ->  optimizer.betas
train scenes-dit --optimizer 3 --out run  ->  field 'optimizer' is unknown
train scenes-dit --model x --out run  ->  field 'model' is unknown: did you mean 'model.width'?
train scenes-dit --data.kind flder --out run  ->  data.kind 'flder' is unknown: did you mean 'fold
train scenes-dit --data.kind folder --out run  ->  data.root is missing: 'folder' needs it
train scenes-dit --data.kind folder --data.root nowhere --out run  ->  nowhere does not exist
train scenes-dit --data.kind folder --data.root file.txt --out run  ->  file.txt is not a folder
train scenes-dit --data.kind folder --data.root empty --out run  ->  empty contains no images: add
train scenes-dit --data.root x --out run  ->  field 'data.root' is unknown
train scenes-dit --data.image_size 33 --out run  ->  data of the shape
train scenes-dit --image_size 0 --out run  ->  data: image_size must be at least 1, got 0
train scenes-dit --encoding --out run  ->  field --encoding has no value
train scenes-dit --encoding_options.theta 0 --out run  ->  model: theta 0.0 must be positive: 1000
train scenes-dit --encoding_options.thetta 5 --out run  ->  model: encoding option 'thetta' is unk
train scenes-dit --encoding_options.per_head sometimes --out run  ->  model.encoding_options.per_h
train scenes-dit --encoding_options.basis lu --out run  ->  model: basis 'lu' is unknown
train scenes-dit --encoding_options 5 --out run  ->  model.encoding_options
train scenes-dit --encoding axial --encoding_options.axes_dim 10,10 --out run  ->  model: axes_dim
train scenes-dit --width 100 --num_heads 3 --out run  ->  model: width 100 is not a multiple of nu
train scenes-dit --depth 0 --out run  ->  model: depth 0 must be at least 1 and finite
train scenes-dit --guidance -1 --out run  ->  sampling: num_steps 12 must be at least 1 and guidan
train scenes-dit --sampler dpm --out run  ->  sampler 'dpm' does not go with RectifiedFlow: choose
train scenes-dit --num_steps 0 --out run  ->  sampling: num_steps 0 must be at least 1 and guidanc
train scenes-dit --seed -1 --out run  ->  seed -1 must not be negative or infinite
train scenes-dit --log_every 0 --out run  ->  log_every 0 must be at least 1 and finite
train scenes-dit --keep_checkpoints 0 --out run  ->  keep_checkpoints 0 must be at least 1 and fin
train scenes-dit --kind folder --out run  ->  field 'kind' is ambiguous
train scenes-dit --diffusion.kind ddim --out run  ->  diffusion.kind 'ddim' is unknown: did you me
train scenes-dit --epochs 3 --out run  ->  --epochs is not an option here: there are no epochs her
train scenes-dit --train_batch_size 3 --out run  ->  --train_batch_size is not an option here: tha
train scenes-dit --gradient_accumulation_steps 2 --out run  ->  --gradient_accumulation_steps is n
train scenes-dit --fp16 --out run  ->  --fp16 is not an option here: write --precision fp16 or --p
train scenes-dit --lr_scheduler cosine --out run  ->  --lr_scheduler is not an option here: write
train scenes-dit --resume_from_checkpoint latest --out run  ->  --resume_from_checkpoint is not an
train scenes-dit --query_key_rate 2 --out run  ->  field 'query_key_rate' has a new name
train scenes-dit --out file.txt  ->  file.txt is not a folder
train scenes-dit --out letters  ->  letters is not empty and holds no run, but a.txt: choose
train scenes-dit --out file.txt/run  ->  file.txt/run is not a folder
train scenes-dit --from nowhere --out run  ->  nowhere is not a checkpoint: pass a folder such as
train scenes-dit --from letters --out run  ->  letters is not a checkpoint: pass a folder such as
train scenes-dit --config nowhere.toml --out run  ->  nowhere.toml does not exist
train scenes-dit --config file.txt --out run  ->  --config file.txt must be a .toml or .json file
train scenes-dit --config broken.toml --out run  ->  broken.toml is not TOML: Invalid value
train scenes-dit --config broken.json --out run  ->  broken.json is not JSON: Expecting property n
train scenes-dit --config list.json --out run  ->  list.json must contain fields by name, such as
train scenes-dit --config letters --out run  ->  --config letters is a folder
train scenes-dit --config typo.toml --out run  ->  field 'optimizer.learning' is unknown: did you
train --config partial.json --out run  ->  partial.json is not the complete configuration of a run
train --config norecipe.toml --out run  ->  no recipe is given
train --config badrecipe.toml --out run  ->  recipe 'scene-dit' is unknown: did you mean 'scenes-d
train --resume nowhere  ->  nowhere is not a run: it has no config.json
train --resume letters  ->  letters is not a run: it has no config.json
train --resume letters --out run  ->  --resume letters goes on with that run
train digits-dit --resume letters  ->  letters is not a run: it has no config.json
train fashion-dit --data.root nowhere --out run  ->  nowhere contains neither train-images-idx3-ub
train scenes-mmdit --text.kind klip --out run  ->  text.kind 'klip' is unknown
sample  ->  the following arguments are required: checkpoint, --out
sample nowhere --out drawn  ->  nowhere holds no checkpoint: expected config.json and model.safete
sample letters --out drawn  ->  letters holds no checkpoint: expected config.json and model.safete
sample nowhere  ->  the following arguments are required: --out
sample file.txt --out drawn  ->  file.txt cannot be read: it is truncated, or no file of torch.save
sample noise.pt --out drawn  ->  noise.pt would run code when opened, or is not a checkpoint
sample letters --out drawn --count x  ->  argument --count: invalid int value: 'x'
sample letters --out drawn --prompt  ->  argument --prompt: expected one argument
sample letters --out drawn --frob 3  ->  --frob is not an option of `harope sample`: see `harope s
sample letters --out drawn --prompt a --prompts p.txt  ->  argument --prompts: not allowed with ar
sample letters --out drawn --weights best  ->  argument --weights: invalid choice: 'best'
sample letters --out drawn --scaling stretch  ->  argument --scaling: invalid choice: 'stretch'
sample letters --out drawn --negative_prompt x  ->  --negative_prompt is not an option here: there
sample letters --out drawn --num_images 4  ->  --num_images is not an option here: write --count
sample scenes --out drawn --count 0  ->  count and batch_size must be at least 1, got 0 and 64
sample scenes --out drawn --count -3  ->  count and batch_size must be at least 1, got -3 and 64
sample scenes --out drawn --labels 999  ->  label 999 is out of range: the model's classes are 0 t
sample scenes --out drawn --labels elephant  ->  --labels 'elephant' is not a class of the model:
sample scenes --out drawn --labels two_red_circles  ->  --labels 'two_red_circles' is not a class
sample scenes --out drawn --labels ,  ->  --labels '' is not a class of the model: there are 180,
sample scenes --out drawn --sampler ddim  ->  sampler 'ddim' does not go with RectifiedFlow: choos
sample scenes --out drawn --num-steps 0  ->  num_steps must be at least 1, got 0
sample scenes --out drawn --guidance nan  ->  guidance must be a number of at least 0, got nan
sample scenes --out drawn --guidance -1  ->  guidance must be a number of at least 0, got -1.0
sample scenes --out drawn --guidance-channels 9  ->  channels 9 is not within the 3 channels of th
sample scenes --out drawn --height 33  ->  height 33 and width 32 must be multiples of the patch s
sample scenes --out drawn --height 0  ->  height must be at least 1, got 0
sample scenes --out drawn --batch-size 0  ->  count and batch_size must be at least 1, got 64 and
sample scenes --out drawn --seed -1  ->  first_seed -1 must lie in 0 .. 9223372036854775744, so th
sample scenes --out drawn --prompt a  ->  scenes cannot generate images from prompts: it is neithe
sample scenes --out file.txt  ->  file.txt is not a folder
sample scenes --out letters  ->  letters holds files but no samples.json that says what they were
sample scenes --out drawn --lora x  ->  --lora requires --prompt, --prompts, --geneval, --dpg or -
sample scenes --out drawn --prompts nowhere.txt  ->  nowhere.txt does not exist
sample scenes --out drawn --geneval nowhere.jsonl  ->  nowhere.jsonl does not exist
sample scenes --out drawn --dpg nowhere  ->  nowhere is not a folder: pass DPG-Bench's folder of p
sample scenes --out drawn --scenes-prompts 0  ->  per_task must be at least 1, got 0
evaluate  ->  the following arguments are required: METRIC
evaluate fid x  ->  argument METRIC: invalid choice: 'fid'
evaluate scenes  ->  pass either a folder of samples or --ceiling
evaluate scenes nowhere  ->  nowhere is not a folder of samples: it has no samples.json
evaluate scenes letters  ->  letters is not a folder of samples: it has no samples.json
evaluate scenes --ceiling --count 0  ->  count 0 must be at least 1
evaluate scenes --ceiling --size 0  ->  size 0 must be at least 1 pixel
evaluate scenes letters --ceiling  ->  pass either a folder of samples or --ceiling
evaluate scenes letters --sizes 3  ->  --sizes is not an option of `harope evaluate scenes`: did y
evaluate classes letters  ->  letters is not a folder of samples: it has no samples.json
evaluate classes  ->  the following arguments are required: folder
evaluate resolutions letters --sizes 8  ->  letters is not a run: it has no config.json
evaluate resolutions letters  ->  the following arguments are required: --sizes
evaluate resolutions letters --sizes 8,x  ->  --sizes '8,x' must be a comma-separated list of inte
evaluate distances letters  ->  the following arguments are required: --reference
evaluate distances letters --reference nowhere  ->  nowhere does not exist: pass a folder of image
evaluate distances nowhere --reference letters  ->  letters holds no image: pass a folder of .jpg,
evaluate distances images --reference images --metrics fod  ->  metrics ['fod'] are unknown: choos
evaluate distances images --reference images --extractor resnet  ->  argument --extractor: invalid
evaluate distances images --reference images --max-unreadable 2  ->  max_unreadable 2.0 must lie i
evaluate distances images --reference file.txt  ->  file.txt is not an .npz file
evaluate geneval letters  ->  geneval requires --detector and --clip
evaluate geneval letters --detector nowhere --clip nowhere  ->  letters does not have GenEval's fo
evaluate dpg letters  ->  the following arguments are required: --questions
evaluate dpg letters --questions nowhere.csv  ->  nowhere.csv does not exist
evaluate dpg letters --questions file.txt --vqa x  ->  file.txt has no columns item_id, propositio
compare scenes-dit  ->  the following arguments are required: --arms
compare scene-dit --arms axial harope --out cmp  ->  recipe 'scene-dit' is unknown: did you mean '
compare scenes-dit --arms axial axial --out cmp  ->  arms
compare scenes-dit --arms axial:foo=3 harope --out cmp  ->  arm 'axial:foo=3': field 'foo' is unkn
compare scenes-dit --arms axial harope --seeds 0 --out cmp  ->  seeds
compare scenes-dit --arms axial harope --seeds a,b --out cmp  ->  --seeds 'a,b' must be a comma-se
compare scenes-dit --arms axial harope --seeds 0,0 --out cmp  ->  seeds
compare scenes-dit --arms axial harope --controls tall --out cmp  ->  --controls 'tall' must be no
compare scenes-dit --arms axial harope --rates x --out cmp  ->  --rates 'x' must be a comma-separa
compare scenes-dit --arms axial harope --workers 0 --out cmp  ->  workers 0 must be at least 1 and
compare scenes-dit --arms axial harope --nice 40 --out cmp  ->  nice 40 must be in the range 0 to
compare scenes-dit --arms axial harope --quick --smoke --out cmp  ->  --quick and --smoke are both
compare scenes-dit --arms axial harope --samples 0 --out cmp  ->  samples 0 must be at least 1 and
compare scenes-dit --arms axial harope --reference nowhere --out cmp  ->  nowhere does not exist:
compare scenes-dit --arms axial harope --stepz 4 --out cmp  ->  field 'stepz' is unknown: did you
inspect  ->  the following arguments are required: RUN
inspect nowhere  ->  nowhere does not exist: pass a run, a checkpoint or an encoding file
inspect letters  ->  letters holds no checkpoint: expected config.json and model.safetensor
inspect file.txt  ->  file.txt cannot be read: it is truncated, or no file of torch.save
inspect scenes --images -1  ->  --images -1 must be 0 or more
inspect scenes --grid 4  ->  --grid '4' must be two positive integers, such as 16,16
inspect scenes --grid 0,4  ->  --grid '0,4' must be two positive integers, such as 16,16
inspect scenes --grid a,b  ->  --grid 'a,b' must be a comma-separated list of integers, such as 16
encode images out  ->  the following arguments are required: --vae
encode nowhere out --vae nowhere  ->  nowhere does not exist
encode images out --vae letters --kind mystery  ->  argument --kind: invalid choice: 'mystery'
encode images out --vae letters --field a=1  ->  --field a=1 only applies to captioned datasets
encode images out --vae letters --kind coco  ->  coco requires 'annotations': pass annotations=...
encode images out --vae letters --image-size 0  ->  image_size must be at least 1, got 0
encode images out --vae letters --max-left-out 2  ->  max_left_out 2.0 must lie in [0, 1]
encode images out --vae letters --form npz  ->  argument --form: invalid choice: 'npz'
encode empty out --vae letters  ->  empty contains no images: add files with the extensions .jpg,
convert  ->  the following arguments are required: checkpoint, out
convert nowhere out  ->  nowhere holds no checkpoint: expected config.json and model.safetensor
convert letters out  ->  letters holds no checkpoint: expected config.json and model.safetensor
convert file.txt out  ->  file.txt cannot be read: it is truncated, or no file of torch.save
convert noise.pt out  ->  noise.pt would run code when opened, or is not a checkpoint
convert scenes letters  ->  letters is not empty
convert scenes file.txt  ->  file.txt is not a folder
bench --threads 0  ->  threads 0 must be at least 1 and finite
bench --threads many  ->  argument --threads: invalid int value: 'many'
bench --device tpu  ->  argument --device: invalid choice: 'tpu'
bench --device cuda  ->  device 'cuda' is not available on this machine
completion  ->  the following arguments are required: shell
completion powershell  ->  argument shell: invalid choice: 'powershell'
recipes foo  ->  unrecognized arguments: foo
encodings --foo  ->  --foo is not an option of `harope encodings`: see `harope encodings --
train scenes-dit --seed 99999999999999999999999 --out run  ->  has more than 63 bits
compare scenes-dit --arms axial harope --out letters  ->  letters is not empty and holds no
inspect scenes --out file.txt  ->  file.txt is a file
evaluate distances images --reference images --batch-size 0  ->  batch_size 0 must be
"""
"""Command lines, and words of their errors."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with a model as `scenes`, and with files of the wrong kinds."""
    # What the first commands would import is not part of their time.
    for module in ("lab.training.loop", "lab.experiments.compare.main", "lab.analysis.page"):
        importlib.import_module(f"harope.{module}")
    folder = tmp_path_factory.mktemp("bad")
    shutil.copytree(RELEASED, folder / "scenes")
    for name in ("letters", "empty", "images"):
        (folder / name).mkdir()
    Image.new("RGB", (16, 16)).save(folder / "images/0.png")
    for name, text in {
        "letters/a.txt": "dear",
        "file.txt": "hello",
        "p.txt": "a cat",
        "broken.toml": "steps = = 3",
        "broken.json": "{steps",
        "list.json": "[1]",
        "typo.toml": "[optimizer]\nlearning = 3",
        "partial.json": '{"steps": 3}',
        "norecipe.toml": "steps = 3",
        "badrecipe.toml": 'recipe = "scene-dit"',
        "noise.pt": "noise" * 50,
    }.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def here(prepared, monkeypatch, annotations_unchecked) -> Iterator[Path]:
    """The prepared folder as the working directory; a test must leave it as it was."""
    monkeypatch.chdir(prepared)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    before = content(prepared)
    yield prepared
    assert content(prepared) == before


def content(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("words", "says"), [case.split("  ->  ") for case in CASES.strip().splitlines()]
)
def test_bad_input_is_one_line_and_leaves_nothing(here, capsys, words, says):
    started = time.process_time()
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("harope: error: ")
    assert says in line
    assert time.process_time() - started < 5


def test_the_table_is_long():
    assert len(CASES.strip().splitlines()) > 180
