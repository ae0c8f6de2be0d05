"""The forward transformation h: (φ_old, ψ) → φ_new space, fitted on pairs, without an image."""

from fct.forward.api import fit
from fct.forward.bridge import Bridge, blend, bridge
from fct.forward.settings import METHODS, FitSettings
from fct.forward.storage import load
from fct.forward.transformation import Forward, transform_to

__all__ = ["METHODS", "Bridge", "FitSettings", "Forward", "blend", "bridge", "fit", "load", "transform_to"]
