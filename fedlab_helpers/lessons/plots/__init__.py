"""Figures, by name: `plots.curves(...)`; each is loaded when it is first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "runs": [
            "COLOURS", "LINES", "LiveCurve", "Picture", "chinese_font", "codecs", "curves",
            "figure", "race", "use_chinese_font",
        ],
        "briefs": ["budgets", "standing"],
        "clients": ["client_bars", "client_dots", "cosine_maps", "partition_map", "slopes"],
        "evidence": [
            "bars", "calibration", "cold_start", "confusion", "energy", "frontier", "gains",
            "gradient_levels", "gradient_map", "growth", "histogram", "seed_dots", "size_speed",
        ],
        "keyboard": ["suggestions"],
        "leaks": ["Page", "reading", "readings", "word_rows"],
        "privacy": ["left_of", "price", "two_worlds"],
        "series": ["over_time", "power", "ways"],
    },
)  # fmt: skip
