"""Read pictures of cells from whatever they come in: `load` -> `Cells`."""

from hemascope.data.cells import SPLITS, UNKNOWN_LABEL, Cells, Images, Pictures, PictureView
from hemascope.data.changes import Changes
from hemascope.data.classes import CLASS_NAMES, class_of
from hemascope.data.folder import find_pictures, load_pictures
from hemascope.data.hashes import pixel_hashes
from hemascope.data.load import load
from hemascope.data.pictures import decode
from hemascope.data.rewrite import rewrite
from hemascope.data.save import save_npz
from hemascope.data.stack import concatenate
from hemascope.data.text import NO_GROUPS_NOTE

__all__ = [
    "CLASS_NAMES",
    "NO_GROUPS_NOTE",
    "SPLITS",
    "UNKNOWN_LABEL",
    "Cells",
    "Changes",
    "Images",
    "PictureView",
    "Pictures",
    "class_of",
    "concatenate",
    "decode",
    "find_pictures",
    "load",
    "load_pictures",
    "pixel_hashes",
    "rewrite",
    "save_npz",
]
