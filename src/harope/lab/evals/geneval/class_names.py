"""COCO's 80 things under the names that GenEval gives them."""

from collections.abc import Mapping

# Some spell a name as COCO's first release or as VOC did.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "person": (), "bicycle": (), "car": (), "motorcycle": ("motorbike",),
    "airplane": ("aeroplane",), "bus": (), "train": (), "truck": (), "boat": (),
    "traffic light": (), "fire hydrant": (), "stop sign": (), "parking meter": (), "bench": (),
    "bird": (), "cat": (), "dog": (), "horse": (), "sheep": (), "cow": (), "elephant": (),
    "bear": (), "zebra": (), "giraffe": (), "backpack": (), "umbrella": (), "handbag": (),
    "tie": (), "suitcase": (), "frisbee": (), "skis": (), "snowboard": (), "sports ball": (),
    "kite": (), "baseball bat": (), "baseball glove": (), "skateboard": (), "surfboard": (),
    "tennis racket": (), "bottle": (), "wine glass": (), "cup": (), "fork": (), "knife": (),
    "spoon": (), "bowl": (), "banana": (), "apple": (), "sandwich": (), "orange": (),
    "broccoli": (), "carrot": (), "hot dog": (), "pizza": (), "donut": ("doughnut",), "cake": (),
    "chair": (), "couch": ("sofa",), "potted plant": (), "bed": (), "dining table": (),
    "toilet": (), "tv": ("tv monitor", "television"), "laptop": (), "computer mouse": ("mouse",),
    "tv remote": ("remote",), "computer keyboard": ("keyboard",),
    "cell phone": ("mobile phone",), "microwave": (), "oven": (), "toaster": (), "sink": (),
    "refrigerator": ("fridge",), "book": (), "clock": (), "vase": (), "scissors": (),
    "teddy bear": (), "hair drier": ("hair dryer",), "toothbrush": (),
}  # fmt: skip
"""GenEval's `object_names.txt` in its order, each with what detectors may call it besides."""

CLASS_NAMES = tuple(SPELLINGS)


def class_names(id2label: Mapping[int, str], source: str) -> dict[int, str]:
    """GenEval's name of each of a model's labels; labels that COCO's things lack are left out.

    Raises ValueError naming `source` where the model lacks one of the 80.
    """
    names = {_plain(word): name for name, more in SPELLINGS.items() for word in (name, *more)}
    found = {
        number: names[_plain(label)] for number, label in id2label.items() if _plain(label) in names
    }
    missing = [name for name in CLASS_NAMES if name not in found.values()]
    if missing:
        raise ValueError(
            f"{source} has no label for {len(missing)} of GenEval's 80 classes, first "
            f"{missing[0]!r}: name a detector trained on COCO's instances"
        )
    return found


def _plain(label: str) -> str:
    """`tvmonitor` is `TV Monitor` is `tv_monitor`."""
    return "".join(letter for letter in label.casefold() if letter.isalnum())
