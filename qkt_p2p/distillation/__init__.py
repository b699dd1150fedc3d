"""How a student learns from responses without forgetting.

settings    LearningSettings, with measured defaults
losses      the pure losses
responses   Response: what one teacher taught; splits, and the oracle's responses
pool        responses and own data -> tensors over the student's head, and balanced batches
training    the training loop of both phases
phase1      query-focused distillation of the whole student
phase2      refinement of the head over a frozen backbone
spread      how own samples lie where those of teachers are drawn
judge       whether samples look to the old model like what their teacher says
gate        the verdict: accept the new model, or keep the old one
"""

from qkt_p2p.distillation.gate import (
    ClassChange,
    Verdict,
    require_measurable,
    validate,
)
from qkt_p2p.distillation.judge import Judge
from qkt_p2p.distillation.phase1 import distill
from qkt_p2p.distillation.phase2 import hold_back, refine
from qkt_p2p.distillation.pool import ENOUGH_SAMPLES
from qkt_p2p.distillation.responses import Response, oracle_responses, split_responses
from qkt_p2p.distillation.settings import LearningSettings
from qkt_p2p.distillation.spread import Spread

__all__ = [
    "ENOUGH_SAMPLES",
    "ClassChange",
    "Judge",
    "LearningSettings",
    "Response",
    "Spread",
    "Verdict",
    "distill",
    "hold_back",
    "oracle_responses",
    "refine",
    "require_measurable",
    "split_responses",
    "validate",
]
