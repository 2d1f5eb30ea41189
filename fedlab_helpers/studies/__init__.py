"""The measured studies of the series, by name."""

from fedlab_helpers.studies.baselines import BASELINES
from fedlab_helpers.studies.local_training import LOCAL_TRAINING
from fedlab_helpers.studies.study import Row, Settings, Study, grid

STUDIES = {study.name: study for study in (BASELINES, LOCAL_TRAINING)}

__all__ = ["STUDIES", "Row", "Settings", "Study", "grid"]
