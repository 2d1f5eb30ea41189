"""The measured studies of the series, by name."""

from fedlab_helpers.studies.article_loop import ARTICLE_LOOP
from fedlab_helpers.studies.baselines import BASELINES
from fedlab_helpers.studies.local_training import LOCAL_TRAINING
from fedlab_helpers.studies.local_work import LOCAL_WORK, LOCAL_WORK_RATES
from fedlab_helpers.studies.long_memory import LONG_MEMORY
from fedlab_helpers.studies.study import Row, Settings, Study, grid

STUDIES = {
    study.name: study
    for study in (
        ARTICLE_LOOP,
        BASELINES,
        LOCAL_TRAINING,
        LOCAL_WORK_RATES,
        LOCAL_WORK,
        LONG_MEMORY,
    )
}

__all__ = ["STUDIES", "Row", "Settings", "Study", "grid"]
