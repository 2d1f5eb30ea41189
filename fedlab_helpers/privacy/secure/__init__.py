"""Secure aggregation, small and real: the server learns the sum of the clients' updates, no update.

Bonawitz et al. 2017, doi:10.1145/3133956.3133982 (first, shorter: arXiv:1611.04482), against a
server that follows the protocol but looks at all it gets, with clients that may drop out at any
time. This is for teaching: nobody has reviewed it as cryptography, so protect no one's data by it.
"""

from fedlab_helpers.privacy.secure.protocol import Client, PublicKeys, Server, secure_sum
from fedlab_helpers.privacy.secure.ring import FixedPoint
from fedlab_helpers.privacy.secure.rounds import SecureSum

__all__ = ["Client", "FixedPoint", "PublicKeys", "SecureSum", "Server", "secure_sum"]
