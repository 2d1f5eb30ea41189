"""What updates give away, and what protects them.

`leaks`: attacks, each as an attacker would run it. `noise`: clipping and noise on the client.
`private_mean`: the same with the noise at the server, and what it amounts to by `budget`;
`per_example`: each example of a client protected, from the server too;
`adaptive`: a clip that follows the updates; `canaries`: an audit of the claim; `public_vectors`:
words to learn from that are nobody's secret. `secure`: sums of which the server sees the total.

This is for teaching, and no reviewed cryptography.
"""

from fedlab_helpers.privacy.noise import Clip, GaussianNoise

__all__ = ["Clip", "GaussianNoise"]
