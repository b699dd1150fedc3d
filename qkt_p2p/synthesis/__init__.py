"""The media: what a teacher's synthetic batches are made of, one module each.

medium      the Protocol of a medium: how a teacher answers, and how the asker reads the answer
media       the media that are built in, by name
features    recipes of the teacher's data behind the asker's frozen stem
moments     recipes of the inputs themselves
inversion   inputs that are optimized from the classifier alone
weights     the model itself, distilled on the asker's own data
noise       answers to structured noise that the asker makes by itself

recipes     a class's recipe: principal axes and a mixture of Gaussians; fitting, masking, drawing
prototypes  what takes a recipe's place under a privacy budget: a noisy mean
mixture     Gaussian mixtures by expectation-maximization
release     the one gate that statistics of private data pass
bank        released statistics, made once per model version and class
files       answers that are one file, in pieces
targets     masked soft targets
stem        a stem that a stranger sent, run within limits
stem_graph  what may be in such a stem, checked before any of it is run
own_stem    the asker's own stem, checked as teachers will check it
"""

from qkt_p2p.synthesis.media import medium_of
from qkt_p2p.synthesis.medium import Holdings, Medium, Part, Reading

__all__ = ["Holdings", "Medium", "Part", "Reading", "medium_of"]
