"""The measured studies of the series, by name."""

from fedlab_helpers.studies.aggregation import AGGREGATION, AGGREGATION_AGAIN, AGGREGATION_RATES
from fedlab_helpers.studies.article_loop import ARTICLE_LOOP
from fedlab_helpers.studies.baselines import BASELINES
from fedlab_helpers.studies.compression import COMPRESSION
from fedlab_helpers.studies.federated_distillation import FEDERATED_DISTILLATION
from fedlab_helpers.studies.label_skew import LABEL_SKEW
from fedlab_helpers.studies.local_training import LOCAL_TRAINING
from fedlab_helpers.studies.local_work import LOCAL_WORK, LOCAL_WORK_RATES
from fedlab_helpers.studies.long_memory import LONG_MEMORY
from fedlab_helpers.studies.personalization import PERSONALIZATION, PERSONALIZATION_RATES
from fedlab_helpers.studies.robustness import ROBUSTNESS
from fedlab_helpers.studies.shrinking import SHRINKING, SHRINKING_AGAIN, SHRINKING_RATES
from fedlab_helpers.studies.study import Row, Settings, Study, grid
from fedlab_helpers.studies.unequal_work import UNEQUAL_WORK
from fedlab_helpers.studies.what_to_average import BLOCK_DRIFT, WHAT_TO_AVERAGE

STUDIES = {
    study.name: study
    for study in (
        AGGREGATION_RATES,
        AGGREGATION,
        AGGREGATION_AGAIN,
        ARTICLE_LOOP,
        BASELINES,
        COMPRESSION,
        FEDERATED_DISTILLATION,
        LABEL_SKEW,
        LOCAL_TRAINING,
        LOCAL_WORK_RATES,
        LOCAL_WORK,
        LONG_MEMORY,
        PERSONALIZATION_RATES,
        PERSONALIZATION,
        ROBUSTNESS,
        SHRINKING_RATES,
        SHRINKING,
        SHRINKING_AGAIN,
        UNEQUAL_WORK,
        WHAT_TO_AVERAGE,
        BLOCK_DRIFT,
    )
}

__all__ = ["STUDIES", "Row", "Settings", "Study", "grid"]
