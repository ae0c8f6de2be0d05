"""The forward transformation h: (φ_old, ψ) → φ_new space, fitted on pairs, without an image."""

from fct.forward.api import Forward, fit, load
from fct.forward.settings import METHODS, FitSettings

__all__ = ["METHODS", "FitSettings", "Forward", "fit", "load"]
