from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from hemascope.errors import InputError
from hemascope.model import build_model
from hemascope.recipe import Recipe

CLASSES = ("basophil", "eosinophil", "monocyte")
Tiny = Callable[..., Recipe]


def test_weights_from_a_file(tiny: Tiny, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, _ = build_model(tiny(), CLASSES)
    path = tmp_path / "weights.safetensors"
    save_file(first.state_dict(), path)
    second, weights = build_model(tiny(pretrained=str(path)), CLASSES)
    assert weights.origin == "file weights.safetensors"
    assert not weights.random
    assert all(
        torch.equal(a, b) for a, b in zip(first.backbone.parameters(), second.backbone.parameters(), strict=True)
    )


def test_weights_that_do_not_fit_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"conv.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="lacks"):
        build_model(tiny(pretrained=str(path)), CLASSES)
    path.write_bytes(b"\x80\x04no safetensors")
    with pytest.raises(InputError, match="is not a safetensors file"):
        build_model(tiny(pretrained=str(path)), CLASSES)
    with pytest.raises(InputError, match="no such weights file"):
        build_model(tiny(pretrained=str(tmp_path / "none.safetensors")), CLASSES)


def test_without_a_network_auto_is_random_and_required_is_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> socket.socket:
        raise OSError("no route")

    monkeypatch.setattr("hemascope.pretrained.socket.create_connection", refuse)
    _, weights = build_model(tiny(pretrained="auto"), CLASSES)
    assert weights.random
    with pytest.raises(InputError, match="connect to the network, name a safetensors file"):
        build_model(tiny(pretrained="required"), CLASSES)


def test_weights_of_an_earlier_download_need_no_network(tiny: Tiny, tmp_path: Path) -> None:
    """The hub's client keeps them so: models--OWNER--NAME/snapshots/REVISION/FILE, and refs/main names the revision."""
    torch.manual_seed(1)
    weights = timm.create_model("test_resnet").state_dict()
    told = timm.get_pretrained_cfg("test_resnet")
    assert told is not None
    repository = tmp_path / f"models--{str(told.hf_hub_id).replace('/', '--')}"
    revision = "0" * 40
    for folder in ("refs", f"snapshots/{revision}"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    save_file(weights, repository / "snapshots" / revision / "model.safetensors")
    script = (
        "import torch; from safetensors.torch import load_file; from hemascope.recipe import recipe_from\n"
        "from hemascope.model import build_model; from hemascope.pretrained import check_weights\n"
        f"recipe = recipe_from({tiny(pretrained='required').model_dump(mode='json')!r})\n"
        "check_weights(recipe); network, weights = build_model(recipe, ('a', 'b'))\n"
        "assert weights.origin == 'ImageNet (timm test_resnet)', weights\n"
        f"wanted = load_file({str(repository / 'snapshots' / revision / 'model.safetensors')!r})\n"
        "assert all(torch.equal(value, wanted[name]) for name, value in network.backbone.state_dict().items())\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_backbone_is_refused_with_those_near_it(tiny: Tiny) -> None:
    with pytest.raises(InputError, match=r"timm has no backbone 'regnetx_02'.*regnetx_002"):
        build_model(tiny(backbone="regnetx_02"), CLASSES)
