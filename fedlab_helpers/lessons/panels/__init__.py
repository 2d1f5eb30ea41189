"""Panels for notebooks: move a control, and a figure is drawn anew."""

from fedlab_helpers.lessons.panels.compression_lab import CompressionLab
from fedlab_helpers.lessons.panels.gradient import LONGEST, RADII, SCALES, GradientPanel
from fedlab_helpers.lessons.panels.partition_explorer import PartitionExplorer
from fedlab_helpers.lessons.panels.personal_lab import PersonalLab
from fedlab_helpers.lessons.panels.strategy_lab import StrategyLab

__all__ = [
    "LONGEST",
    "RADII",
    "SCALES",
    "CompressionLab",
    "GradientPanel",
    "PartitionExplorer",
    "PersonalLab",
    "StrategyLab",
]
