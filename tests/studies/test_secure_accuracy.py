"""The study of rings leaves masks out: its mean is that of a secure sum, bit for bit."""

from fedlab_helpers import LocalConfig, Plan, run, state
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.privacy.secure import SecureSum
from fedlab_helpers.studies.secure_accuracy import RingMean


def test_the_mean_of_a_ring_is_that_of_a_secure_sum(small_model, clients, bits):
    plan = Plan(2, 3, LocalConfig(1, 4, 0.1, "sgd"), seed=3, workers=1)
    secure, ends = SecureSum(8, 1.0, 20), []
    for strategy, how in ((Strategy(), secure), (Strategy(RingMean(secure=secure)), None)):
        model = small_model()
        run(model, clients, strategy, plan, secure=how)
        ends.append(bits(state.of_model(model)))
    assert ends[0] == ends[1]
