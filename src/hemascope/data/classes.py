"""The eight cells and the names that people give them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from hemascope.errors import InputError

# The order of BloodMNIST (Yang et al., MedMNIST v2, 2023): label 0 is basophil.
CLASS_NAMES = (
    "basophil",
    "eosinophil",
    "erythroblast",
    "immature granulocyte",
    "lymphocyte",
    "monocyte",
    "neutrophil",
    "platelet",
)

LABEL_ORDER_NOTE = (
    "The labels are numbers without names and were read in BloodMNIST's order: "
    + ", ".join(f"{label} {name}" for label, name in enumerate(CLASS_NAMES))
    + "."
)

# The abbreviations are those of the Barcelona (Acevedo et al., 2020) and Munich (Matek et al., 2019) archives and of
# haematology analysers. A cell that none of the eight covers (a blast, an atypical lymphocyte, a promonocyte) has no
# synonym here on purpose: only the person who holds the pictures may say where it belongs.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "basophil": ("ba", "bas", "baso", "basophile", "basophilic granulocyte", "basophil granulocyte"),
    "eosinophil": ("eo", "eos", "eosin", "eosino", "eosinophile", "eosinophilic granulocyte", "eosinophil granulocyte"),
    "erythroblast": (
        "erb",
        "ebo",
        "erythro",
        "normoblast",
        "nrbc",
        "nucleated red blood cell",
        "nucleated red cell",
        "basophilic erythroblast",
        "basophilic normoblast",
        "polychromatic erythroblast",
        "polychromatic normoblast",
        "orthochromatic erythroblast",
        "orthochromatic normoblast",
    ),
    "immature granulocyte": (
        "ig",
        "immature granulocytes (myelocytes, metamyelocytes and promyelocytes)",
        "granulocyte immature ig",
        "promyelocyte",
        "myelocyte",
        "metamyelocyte",
        "pmy",
        "pmo",
        "my",
        "myb",
        "mmy",
        "mmz",
    ),
    "lymphocyte": ("ly", "lym", "lymp", "lymph", "lympho", "lyt", "typical lymphocyte"),
    "monocyte": ("mo", "mon", "mono"),
    "neutrophil": (
        "ne",
        "neu",
        "neut",
        "neutro",
        "neutrophile",
        "neutrophilic granulocyte",
        "neutrophil granulocyte",
        "bne",
        "ngb",
        "band",
        "band cell",
        "band neutrophil",
        "banded neutrophil",
        "stab",
        "stab neutrophil",
        "sne",
        "ngs",
        "seg",
        "segmented",
        "segmented neutrophil",
    ),
    "platelet": ("plt", "plat", "thrombocyte"),
}


def _plain(name: str) -> str:
    """A name with case, plural, punctuation, order of words and a leading number taken away."""
    words = re.findall(r"[^\W_]+", name.casefold())
    words = [word for word in words if not word.isdecimal()] or words
    singular = [
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words
    ]
    return " ".join(sorted(singular))


_CLASS_OF = {_plain(name): cell for cell, names in SYNONYMS.items() for name in (cell, *names)}


def class_of(name: str) -> str | None:
    """The cell of the eight that a name or a usual abbreviation means, or None when it means none of them."""
    return _CLASS_OF.get(_plain(name))


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is spelt most like this one, or None when none is near."""
    spelling = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name.strip().casefold(), list(spelling), n=1, cutoff=cutoff)
    return spelling[found[0]] if found else None


def _checked_map(class_map: Mapping[str, str] | None) -> dict[str, str]:
    checked: dict[str, str] = {}
    for name, cell in (class_map or {}).items():
        known = class_of(cell)
        if known is None:
            guess = nearest(cell, CLASS_NAMES) or "one of " + ", ".join(CLASS_NAMES)
            raise InputError(f"--map {name}={cell}: '{cell}' is not one of the eight cells; did you mean {guess}?")
        checked[name.strip() if name.strip().isdecimal() else _plain(name)] = known
    return checked


def label_table(names: Iterable[str], class_map: Mapping[str, str] | None, source: str) -> dict[str, int]:
    """The label of each class name that a source uses: a position in CLASS_NAMES.

    names: the names found; when all of them are whole numbers they are taken as labels in the order of CLASS_NAMES.
    class_map: name -> cell, over everything else; a number may be a name too. source: named in the sentence.
    Raises InputError when a name means none of the eight, with the nearest that does.
    """
    names = list(dict.fromkeys(names))
    chosen = _checked_map(class_map)
    numbers = all(re.fullmatch(r"[+-]?\d+", name.strip()) for name in names)
    table: dict[str, int] = {}
    for name in names:
        key = name.strip()
        cell = chosen.get(key if key.isdecimal() else _plain(name))
        if cell is None and numbers:
            if not 0 <= int(key) < len(CLASS_NAMES):
                raise InputError(
                    f"{source}: label {key} is not one of 0 to {len(CLASS_NAMES) - 1}; correct it, or say which cell "
                    f"it is with --map {key}=CELL."
                )
            cell = CLASS_NAMES[int(key)]
        if cell is None:
            cell = class_of(name)
        if cell is None:
            raise InputError(_unknown_class(name, source))
        table[name] = CLASS_NAMES.index(cell)
    return table


def _unknown_class(name: str, source: str) -> str:
    # Short abbreviations are near to anything; and a blast is nobody's spelling mistake, whatever it looks like.
    known = [spelt for cell, synonyms in SYNONYMS.items() for spelt in (cell, *synonyms) if len(spelt) > 4]
    guess = nearest(name, known, cutoff=0.8 if "blast" in name.casefold() else 0.6)
    cell = class_of(guess) if guess else None
    near = f"the nearest is {cell}" if cell else "the eight are " + ", ".join(CLASS_NAMES)
    entry = f"{name}={cell or 'CELL'}"
    shown = entry if re.fullmatch(r"[\w=]+", entry) else f'"{entry}"'
    return (
        f"{source}: '{name}' is not the name of one of the eight cells; {near}: if that is what it means, "
        f"give --map {shown}, otherwise leave those pictures out."
    )
