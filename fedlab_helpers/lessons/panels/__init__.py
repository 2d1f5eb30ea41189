"""Panels for notebooks: move a control, and a figure is drawn anew."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "brief_panel": ["BriefPanel"],
        "compression_lab": ["CompressionLab"],
        "gradient": ["LONGEST", "RADII", "SCALES", "GradientPanel"],
        "keyboard_panel": ["KeyboardPanel"],
        "leak_panel": ["LeakPanel"],
        "partition_explorer": ["PartitionExplorer"],
        "personal_lab": ["PersonalLab"],
        "privacy_lab": ["PrivacyLab"],
        "sortable": ["SortableTable"],
        "strategy_lab": ["StrategyLab"],
    },
)
