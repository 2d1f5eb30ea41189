"""Panels for notebooks: move a control, and a figure is drawn anew."""

from fedlab_helpers.widgets.compression_lab import CompressionLab
from fedlab_helpers.widgets.gradient import LONGEST, RADII, SCALES, GradientPanel
from fedlab_helpers.widgets.partition_explorer import PartitionExplorer
from fedlab_helpers.widgets.personal_lab import PersonalLab
from fedlab_helpers.widgets.strategy_lab import StrategyLab

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
