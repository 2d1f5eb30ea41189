"""What protects an update on its way: so far, that it is clipped and that noise is added to it."""

from fedlab_helpers.privacy.noise import Clip, GaussianNoise

__all__ = ["Clip", "GaussianNoise"]
