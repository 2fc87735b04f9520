"""Write cells to an npz that `load` gives back exactly."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemascope.data.cells import Cells
from hemascope.errors import InputError
from hemascope.files import replacing


def save_npz(cells: Cells, path: str | Path) -> None:
    """Write cells so that `load(path, size=None)` gives them back exactly, row for row; replaces the file in one step.

    The pictures are written batch by batch and not compressed, so that they can be memory-mapped. Labels are left out
    when no picture has one; notes and the list of unreadable pictures are not written. Raises InputError when only
    some pictures have a label, or when the file cannot be written.
    """
    path = Path(path)
    if bool((cells.labels >= 0).any()) and not cells.labelled:
        raise InputError(f"{path.name}: only some of the pictures have a label; take the labelled ones first.")
    columns: dict[str, NDArray[Any] | None] = {
        "labels": cells.labels if cells.labelled else None,
        "class_names": np.array(cells.class_names),
        "ids": cells.ids,
        "split": cells.split,
        "groups": cells.groups,
        "jpeg": cells.jpeg,
    }
    try:
        with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("images.npy", "w", force_zip64=True) as stream:
                shape = tuple(int(side) for side in cells.images.shape)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
                for _, batch in cells.batches():
                    stream.write(np.ascontiguousarray(batch, np.uint8).data)
            for name, values in columns.items():
                if values is not None:
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                        np.lib.format.write_array(stream, np.asarray(values), allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); choose another place.") from error
