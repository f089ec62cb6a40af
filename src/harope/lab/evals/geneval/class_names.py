"""GenEval's names of COCO's 80 object classes."""

from collections.abc import Mapping

# Some models keep the spellings of COCO's first release or of Pascal VOC.
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
"""GenEval's `object_names.txt` in its order, each with the other names that detectors use."""

CLASS_NAMES = tuple(SPELLINGS)


def class_names(id2label: Mapping[int, str], source: str) -> dict[int, str]:
    """Translate the labels of a detector into GenEval's names.

    Args:
        id2label: The model's labels by class index.
        source: Name of the model, for the error message.

    Returns:
        GenEval's name by class index, without the labels that are not among its 80 classes.

    Raises:
        ValueError: If the model does not know one of the 80 classes.
    """
    names = {_normalise(word): name for name, more in SPELLINGS.items() for word in (name, *more)}
    translated = {
        index: names[_normalise(label)]
        for index, label in id2label.items()
        if _normalise(label) in names
    }
    missing = [name for name in CLASS_NAMES if name not in translated.values()]
    if missing:
        raise ValueError(
            f"{source} has no label for {len(missing)} of GenEval's 80 classes, first "
            f"{missing[0]!r}: name a detector trained on COCO's instances"
        )
    return translated


def _normalise(label: str) -> str:
    """Reduce `TV Monitor` and `tv_monitor` to `tvmonitor`."""
    return "".join(letter for letter in label.casefold() if letter.isalnum())
