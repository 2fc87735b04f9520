"""One step of the optimiser, with gradients summed over as many parts of a batch as memory asks for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning_fabric import Fabric

from hemascope import draws
from hemascope.average import WeightAverage
from hemascope.batches import Batch
from hemascope.compiled import Compiled
from hemascope.devices import out_of_memory
from hemascope.errors import InputError
from hemascope.loss import soft_cross_entropy
from hemascope.model import CellClassifier
from hemascope.optimization import Optimizer
from hemascope.recipe import Recipe
from hemascope.wording import many


class Step:
    """Takes a batch, moves the weights, and gives the batch's summed loss and right answers.

    micro_batch: how many pictures go through the network at a time; it is halved when memory runs out, and the rest of
    the batch follows before the weights move, so that the total batch stays. compiled: what computes in the place of
    `plain`, around whose weights it stands; where compiling fails, training goes on without.
    """

    def __init__(
        self,
        plain: CellClassifier,
        optimizer: Optimizer,
        average: WeightAverage,
        recipe: Recipe,
        class_weights: torch.Tensor | None,
        seed: int,
        fabric: Fabric,
        micro_batch: int,
        say: Callable[[str], None],
        compiled: Compiled | None = None,
    ) -> None:
        self.plain, self.average, self.recipe, self.seed, self.fabric = plain, average, recipe, seed, fabric
        self.micro_batch, self.say, self.compiled = micro_batch, say, compiled
        self.network, self.optimizer = fabric.setup(plain if compiled is None else compiled, optimizer)
        self.class_weights = None if class_weights is None else class_weights.to(fabric.device)

    def __call__(
        self, batch: Batch, learning_rate: float, epoch: int, number: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """number: of the step in its stage. Returns tensors on the device: reading them would wait for it."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        while (found := self._with_gradients(batch, epoch, number)) is None:
            pass
        if self.recipe.gradient_clip:
            # A norm that is no number shows in the loss, which is looked at where that makes nobody wait.
            self.fabric.clip_gradients(
                self.network, self.optimizer, max_norm=self.recipe.gradient_clip, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(number + 1)
        return found

    def _with_gradients(self, batch: Batch, epoch: int, number: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The loss and the right answers, after the gradients are there; None when it must be tried again."""
        try:
            return self._gradients(batch, epoch, number)
        except Exception as error:
            # Dynamo, the compiler and the driver raise many types for "cannot be had".
            if not out_of_memory(error):
                if self.compiled is None:
                    raise
                self.compiled.give_up(error)
                self.optimizer.zero_grad(set_to_none=True)
                return None
        # Here the error is gone, which held on to what filled the memory.
        self._take_less()
        return None

    def _gradients(self, batch: Batch, epoch: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        fabric, recipe = self.fabric, self.recipe
        own = batch.targets[batch.share]
        pieces = -(-len(own) // self.micro_batch)
        whole = None if pieces == fabric.world_size == 1 else batch.targets
        summed = torch.zeros((), dtype=torch.float64, device=fabric.device)
        right = torch.zeros_like(summed)
        place = batch.share.start
        parts = zip(batch.pictures.tensor_split(pieces), own.tensor_split(pieces), strict=True)
        for piece, (pictures, shown) in enumerate(parts):
            last = piece == pieces - 1
            # Dropout draws from torch's own generator: seeded here, it does not depend on what came before.
            torch.manual_seed(draws.word(self.seed, epoch, number, "dropout"))
            self.plain.shown_part(place, len(batch.targets))
            place += len(shown)
            with fabric.no_backward_sync(self.network, enabled=not last):
                logits = self.network(pictures).float()
                loss = soft_cross_entropy(logits, shown, self.class_weights, recipe.label_smoothing, whole)
                # Processes average their gradients, where the loss wants their sum.
                total = loss * fabric.world_size
                for matrix in self.plain.penalised_weights() if last and recipe.head_l2 else ():
                    total = total + recipe.head_l2 * matrix.square().sum()
                fabric.backward(total)
            mostly = shown if shown.ndim == 1 else shown.argmax(1)
            summed = summed + loss.detach().double() * len(batch.targets)
            right = right + (logits.argmax(1) == mostly).sum()
        return summed, right

    def _take_less(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        if self.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.fabric.world_size > 1:
            # The others wait for gradients of a step that this process did not finish.
            raise InputError(
                f"memory does not suffice for {many(self.micro_batch, 'picture')} in a process; go on by --resume with "
                f"--micro-batch {max(self.micro_batch // 2, 1)}."
            )
        if self.micro_batch == 1:
            raise InputError(
                "memory does not suffice for a single picture; use a smaller 'image_size' or 'backbone', or another "
                "--device."
            )
        self.micro_batch = -(-self.micro_batch // 2)
        if self.compiled is not None:
            self.compiled.without_graphs()
        self.say(
            f"memory does not suffice: {many(self.micro_batch, 'picture goes', 'pictures go')} through the network at "
            f"a time, and the batch stays {self.recipe.batch_size}."
        )
