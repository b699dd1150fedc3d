"""The media: how a teacher makes synthetic batches from what it may release.

medium      the Protocol of a medium, and the list of those built in
moments     a mixture of Gaussians per class, in a PCA space of the class's inputs
mixture     Gaussian mixtures, fitted and chosen by held-out likelihood
release     the one gate that statistics of private data pass
stem_graph  what may be in a stem that an asker sent: checks and limits
stem        such a stem, run over this node's data
bank        statistics per model version and class, made once
batches     labels and masked soft targets for synthetic inputs
"""

from qkt_p2p.synthesis.bank import Bank
from qkt_p2p.synthesis.batches import make_batch
from qkt_p2p.synthesis.medium import Medium, medium_of

__all__ = ["Bank", "Medium", "make_batch", "medium_of"]
