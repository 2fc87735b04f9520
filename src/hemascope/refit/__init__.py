"""A model fitted again to a few labelled pictures of another laboratory, in seconds and without torch."""

from hemascope.refit.head import Fitted, fit
from hemascope.refit.model import refit

__all__ = ["Fitted", "fit", "refit"]
