"""The eight cells and the names that people give them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from hemascope.errors import InputError
from hemascope.wording import many

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


def with_eight(names: Iterable[str]) -> tuple[str, ...]:
    """The eight cells, and after them those of the names that are not among them, each once."""
    return tuple(dict.fromkeys((*CLASS_NAMES, *names)))


def new_classes(names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The same names, each of which may be a class besides the known ones and the eight cells.

    A kind that is usually counted to one of the eight (a promyelocyte) may become a class of its own. Raises InputError
    for a name without letters, one that breaks a line, and one that is known already.
    """
    taken = {_plain(name): name for name in with_eight(known)}
    found: list[str] = []
    for name in map(str.strip, names):
        if not (name.isprintable() and any(letter.isalpha() for letter in name)):
            raise InputError(f"--new-class {name!r}: is no name; give one with letters in it, such as blast.")
        if same := taken.get(_plain(name)):
            raise InputError(f"--new-class {name}: is the class {same}, which is known already; leave it out.")
        taken[_plain(name)] = name
        found.append(name)
    return tuple(found)


def _meant(name: str, classes: Sequence[str]) -> str | None:
    """The class that a name means; one besides the eight goes before the synonyms of those."""
    others = {_plain(one): one for one in classes if one not in CLASS_NAMES}
    return others.get(_plain(name)) or class_of(name)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is spelt most like this one, or None when none is near."""
    spelling = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name.strip().casefold(), list(spelling), n=1, cutoff=cutoff)
    return spelling[found[0]] if found else None


def _checked_map(class_map: Mapping[str, str] | None, classes: Sequence[str]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for name, cell in (class_map or {}).items():
        known = _meant(cell, classes)
        if known is None:
            guess = nearest(cell, classes) or "one of " + ", ".join(classes)
            raise InputError(f"--map {name}={cell}: '{cell}' is not one of {_counted(classes)}; did you mean {guess}?")
        checked[name.strip() if name.strip().isdecimal() else _plain(name)] = known
    return checked


def label_table(
    names: Iterable[str], class_map: Mapping[str, str] | None, source: str, classes: Sequence[str] = CLASS_NAMES
) -> dict[str, int]:
    """The label of each class name that a source uses: a position in classes.

    names: the names found; when all of them are whole numbers they are taken as labels in the order of CLASS_NAMES.
    class_map: name -> class, over everything else; a number may be a name too. source: named in the sentence. classes:
    the eight cells and any others that are known. Raises InputError when a name means none of them, with the nearest
    that does.
    """
    names = list(dict.fromkeys(names))
    chosen = _checked_map(class_map, classes)
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
            cell = _meant(name, classes)
        if cell is None:
            raise InputError(_unknown_class(name, source, classes))
        table[name] = classes.index(cell)
    return table


def _counted(classes: Sequence[str]) -> str:
    return "the eight cells" if len(classes) == len(CLASS_NAMES) else f"the {many(len(classes), 'class', 'classes')}"


def _unknown_class(name: str, source: str, classes: Sequence[str]) -> str:
    # Short abbreviations are near to anything; and a blast is nobody's spelling mistake, whatever it looks like.
    known = [spelt for cell, synonyms in SYNONYMS.items() for spelt in (cell, *synonyms) if len(spelt) > 4]
    guess = nearest(name, [*known, *classes], cutoff=0.8 if "blast" in name.casefold() else 0.6)
    cell = _meant(guess, classes) if guess else None
    near = f"the nearest is {cell}" if cell else f"{_counted(classes).rsplit(' ', 1)[0]} are " + ", ".join(classes)
    means, entry = "that is what it means" if cell else "it means one of them", f"{name}={cell or 'CELL'}"
    return (
        f"{source}: '{name}' is not the name of one of {_counted(classes)}; {near}: if {means}, give --map "
        f"{_quoted(entry)}, otherwise leave those pictures out, or make it a class of its own with train --refit MODEL "
        f"--new-class {_quoted(name)}."
    )


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w=]+", word) else f'"{word}"'
