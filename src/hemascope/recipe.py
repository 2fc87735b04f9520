"""The typed recipe: everything that decides how a model is made, as a YAML file with checked keys."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from hemascope.errors import InputError

Optimizer = Literal["lion", "adam", "adamw", "sgd", "rmsprop"]
Schedule = Literal["constant", "plateau", "cosine", "one_cycle"]
AugmentationName = Literal[
    "randaugment", "augmix", "augmix-plain", "dihedral", "affine", "rotate", "zoom", "shift", "shear", "brightness",
    "contrast", "saturation", "hue", "channel-shift", "channel-shuffle", "stain", "white-balance", "grey", "jitter",
    "solarise", "posterise", "equalise", "sharpness", "gaussian-blur", "motion-blur", "defocus-blur",
    "gaussian-noise", "shot-noise", "speckle-noise", "impulse-noise", "jpeg", "pixelate", "cutout", "grid-mask",
    "bubbles", "deposits", "mixup", "cutmix",
]  # fmt: skip
Classical = Literal["classical/svm", "classical/random-forest", "classical/gradient-boosting", "classical/k-nn"]

CLASSICAL_KEYS = ("name", "description", "backbone", "pretrained", "augmentation", "copies", "class_weights")
"""The keys that say something about a model from hand-made features; the others are about networks."""


MOST_MEMBERS = 32
MOST_CHOICES = 16
"""More names than these are not listed in an error."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Augmentation(Part):
    """One family of augmentation, drawn anew for every picture."""

    name: AugmentationName = Field(description="The family.")
    magnitude: float = Field(0.5, ge=0, le=1, description="How strong, from 0 to 1; what 1 is depends on the family.")
    probability: float = Field(1.0, ge=0, le=1, description="The share of the pictures that it touches.")


class Stage(Part):
    """One stretch of training with its own optimiser state."""

    name: str = Field(description="What tables call it.")
    epochs: int = Field(ge=1, description="At most so many walks over the training rows.")
    learning_rate: float = Field(gt=0, description="The highest rate of the stage.")
    random_learning_rate: float | None = Field(
        None, gt=0, description="The highest rate when the backbone starts from random weights; default: the same."
    )
    image_size: int | None = Field(
        None, ge=16, le=1024, description="Side of the pictures in this stage, where it is not yet the recipe's."
    )
    augmented: float = Field(
        1.0, ge=0, le=1, description="What the probabilities of the recipe's augmentation are multiplied with."
    )
    freeze_backbone: bool = Field(False, description="Train the head alone; skipped when weights are random.")


class Recipe(Part):
    """How a model is made. Each field is a key of the YAML file."""

    name: str = Field(description="What tables and run folders call the recipe.")
    description: str = Field("", description="One sentence for people.")
    backbone: str = Field(
        description="A timm model name; classical/svm, random-forest, gradient-boosting or k-nn: hand-made features "
        "without a network; or 'none': answer with the most frequent class always."
    )
    pretrained: str = Field(
        "auto", description="auto (ImageNet weights when they can be had), required, none, or a safetensors file."
    )
    image_size: int = Field(96, ge=16, le=1024, description="Side of the square that the network sees, in pixels.")
    head: Literal["dense", "knn"] = Field(
        "dense", description="Dense layers that are trained, or a vote of the training cells nearest in embedding."
    )
    neighbours: int = Field(20, ge=1, description="Training cells that vote where the head is knn.")
    head_widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1024, 512), description="Dense layers between pooling and classes."
    )
    head_dropout: float = Field(0.5, ge=0, lt=1, description="Dropout after each dense layer, or before a bare one.")
    head_l2: float = Field(0.001, ge=0, description="L2 penalty on the weights of the dense layers.")
    augmentation: tuple[Augmentation, ...] = Field((), description="Families applied in this order to each picture.")
    copies: int = Field(1, ge=1, le=16, description="Augmented copies of each picture that classical models learn too.")
    batch_size: int = Field(35, ge=2, description="Pictures in a step.")
    micro_batch: int | None = Field(
        None, ge=1, description="Pictures that go through the network at a time, where memory is short; default: all."
    )
    sampling: Literal["natural", "balanced"] = Field(
        "natural",
        description="natural: an epoch shows each row once; balanced: each class equally often, without class weights.",
    )
    optimizer: Optimizer = Field("lion", description="The optimiser.")
    fused: bool | None = Field(
        None,
        description="One kernel for all weights, rounded a little differently; default: where there is one.",
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay, off norms and biases.")
    stages: tuple[Stage, ...] = Field((), description="Stages, run one after the other; networks need them.")
    schedule: Schedule = Field("plateau", description="How the learning rate moves within a stage.")
    warm_up: float | None = Field(
        None, ge=0, lt=1, description="Share of a stage in which the rate rises first; default: 0.15 of one_cycle."
    )
    plateau_patience: int = Field(3, ge=1, description="Epochs without a better validation score before it is cut.")
    plateau_factor: float = Field(0.3, gt=0, lt=1, description="What the rate is multiplied with on a plateau.")
    early_stopping: int = Field(8, ge=1, description="Epochs without a better validation score that end a stage.")
    select_by: Literal["stress", "clean"] = Field(
        "stress",
        description="Score on validation rows that picks the best epoch and stops early: under corruption, or clean.",
    )
    class_weights: Literal["balanced", "none"] = Field("balanced", description="Weight of a class in the loss.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all classes.")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="Decay of the moving average of the weights; 0: none.")
    gradient_clip: float = Field(0.0, ge=0, description="Largest gradient norm; 0: no limit.")
    channels_last: bool = Field(True, description="Keep the channels of a pixel together in memory, mostly faster.")
    workers: int = Field(2, ge=0, description="Threads that read and augment ahead of the network; 0: none.")
    teacher: str = Field("", description="Folder of a finished run whose answers are learned beside the labels.")
    teacher_share: float = Field(0.5, ge=0, le=1, description="Share of the teacher's answers in the targets.")
    views: Literal[1, 2, 4, 8] = Field(
        1, description="Poses of a picture (as it is, mirrored, turned) over which the exported model averages."
    )
    members: int | tuple[str, ...] = Field(
        1, description="Networks averaged in the exported model: so many seeds, or the folders of finished runs."
    )

    @field_validator("members", mode="before")
    @classmethod
    def _number_or_folders(cls, given: Any) -> Any:
        number = isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= MOST_MEMBERS
        folders = isinstance(given, (list, tuple)) and len(given) > 1 and all(isinstance(one, str) for one in given)
        if not (number or folders):
            raise PydanticCustomError(
                "members", f"expected a whole number from 1 to {MOST_MEMBERS}, or a list of two run folders or more"
            )
        return given

    def in_stage(self, stage: Stage) -> Recipe:
        """The recipe with the augmentation of one of its stages."""
        if stage.augmented == 1:
            return self
        steps = [
            step.model_copy(update={"probability": step.probability * stage.augmented}) for step in self.augmentation
        ]
        return self.model_copy(update={"augmentation": tuple(steps) if stage.augmented else ()})

    def side_in(self, stage: Stage) -> int:
        """The side of the pictures in one of its stages, in pixels."""
        return stage.image_size or self.image_size

    @property
    def classical(self) -> bool:
        """Whether the model is made from hand-made features rather than a network."""
        return self.backbone.partition("/")[0] == "classical"

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Recipe:
        given = {name for name in self.model_fields_set if getattr(self, name) != type(self).model_fields[name].default}
        if self.classical:
            choices = get_args(Classical)
            if self.backbone not in choices:
                raise _mistake(
                    f"'backbone' is {self.backbone!r}{_nearest(self.backbone, choices)}; there are {', '.join(choices)}"
                )
            if other := sorted(given - set(CLASSICAL_KEYS)):
                raise _mistake(f"'{other[0]}' is about networks, and {self.backbone} is none; leave it out")
            if mixing := [step.name for step in self.augmentation if step.name in ("mixup", "cutmix")]:
                raise _mistake(f"'{mixing[0]}' mixes labels, and classical models learn from one each; leave it out")
        elif "copies" in given:
            raise _mistake("'copies' is about classical models; networks see other copies in every epoch: leave it out")
        elif self.head == "knn":
            if self.stages:
                raise _mistake("'stages' train a network, and under 'head: knn' nothing is trained; leave them out")
        elif self.backbone != "none" and isinstance(self.members, int) and "stages" not in self.model_fields_set:
            raise _mistake("the key 'stages' is missing; add it")
        return self


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    folder = resources.files("hemascope") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """The YAML of a recipe that comes with the package. Raises InputError for an unknown name."""
    known = recipe_names()
    if name not in known:
        raise InputError(f"'{name}' is no recipe{_nearest(name, known)}; there are {', '.join(known)}.")
    return (resources.files("hemascope") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def field_help() -> list[tuple[str, str]]:
    """What may stand in a recipe: each field, those of lists as `stages.epochs`, with a sentence and its default."""
    parts: dict[str, type[Part]] = {"augmentation": Augmentation, "stages": Stage}
    found = []
    for name, field in Recipe.model_fields.items():
        found.append((name, _help(field)))
        if name in parts:
            found += [(f"{name}.{key}", _help(own)) for key, own in parts[name].model_fields.items()]
    return found


def _help(field: FieldInfo) -> str:
    told = field.description or ""
    if choices := [str(choice) for choice in get_args(field.annotation) if isinstance(choice, str)]:
        told += f" One of {', '.join(choices)}."
    if field.is_required():
        return f"{told} Required."
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    if "default:" in told or default in ("", None):
        return told
    return f"{told} Default: {str(default).lower() if isinstance(default, bool) else default}."


def load_recipe(name: str | Path) -> Recipe:
    """A recipe by the name of one that comes with the package, or from a YAML file.

    Raises InputError for an unknown name, and for unknown, misspelt or ill-typed keys with the nearest right one.
    """
    known = recipe_names()
    if str(name) in known:
        return parse_recipe(recipe_text(str(name)), f"{name}.yaml")
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise InputError(f"{path}: there is no such recipe file; give one of {', '.join(known)} or a YAML file.")
        return parse_recipe(path.read_text(encoding="utf-8"), str(path))
    if path.is_file():
        raise InputError(f"{path}: is no recipe; expected a YAML file, whose name ends in .yaml or .yml.")
    raise InputError(f"'{name}' is no recipe{_nearest(str(name), known)}; there are {', '.join(known)}.")


def parse_recipe(text: str, source: str = "recipe") -> Recipe:
    """The recipe that a YAML text holds; `source` names it in errors."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line, first = (
            getattr(getattr(error, name, None), "line", none)
            for name, none in (("problem_mark", 0), ("context_mark", math.inf))
        )
        begun = f", in what begins in line {first + 1}" if first < line else ""
        raise InputError(f"{source}: line {line + 1} is not valid YAML{begun}; mend it.") from error
    if content is None:
        raise InputError(f"{source}: is empty, expected keys such as backbone and stages.")
    if not isinstance(content, dict):
        what = "a list" if isinstance(content, list) else "a single value"
        raise InputError(f"{source}: holds {what}, expected keys such as backbone and stages.")
    return recipe_from(content, source)


def recipe_from(content: dict[str, Any], source: str = "recipe") -> Recipe:
    """The recipe that a mapping holds. Raises InputError naming the first key that is wrong."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{source}: {_sentence(error)}") from error


_KINDS = {
    "int": "a whole number", "float": "a number", "finite": "a number", "bool": "true or false", "string": "a text",
    "tuple": "a list", "model": "keys with their values",
}  # fmt: skip
"""What the errors of pydantic that begin so expect."""
_BOUNDS = {
    "greater_than_equal": "{0:g} or more", "less_than_equal": "{0:g} or less", "greater_than": "more than {0:g}",
    "less_than": "less than {0:g}",
}  # fmt: skip


def _sentence(error: ValidationError) -> str:
    # A key that is misspelt is missing as well, by its right name: the word that stands there is what to look at.
    problem = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        parts: dict[str, type[Part]] = {"stages": Stage, "augmentation": Augmentation}
        part = parts.get(str(problem["loc"][0]), Recipe)
        return f"unknown key '{where}'{_nearest(str(problem['loc'][-1]), list(part.model_fields))}."
    if problem["type"] == "missing":
        return f"the key '{where}' is missing; add it."
    if problem["type"] == "mistake":
        return f"{problem['msg']}."
    found, near = problem.get("input"), ""
    if problem["type"] == "literal_error":
        choices = [*get_args(Optimizer), *get_args(Schedule), *get_args(AugmentationName)]
        near = _nearest(str(found), choices)
    return f"'{where}' is {found!r}{near}: expected {_expected(problem)}."


def _expected(problem: ErrorDetails) -> str:
    """What ought to stand there, in the words of a recipe's author rather than of Python."""
    kind, bounds = problem["type"], problem.get("ctx", {})
    for name, words in _KINDS.items():
        if kind.startswith(name):
            return words
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(*bounds.values())
    if kind == "literal_error":
        told = str(bounds["expected"])
        count = told.count(",") + 2
        return told if count <= MOST_CHOICES else f"one of {count} names, which `hemascope recipes --fields` lists"
    return problem["msg"].removeprefix("expected ")


def _mistake(sentence: str) -> PydanticCustomError:
    # A template would take braces in a user's own words for its own.
    return PydanticCustomError("mistake", "{sentence}", {"sentence": sentence})


def _nearest(word: str, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""
