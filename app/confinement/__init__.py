"""What processes that touch strangers' bytes may do, which is next to nothing: one confinement for all of them.

A process applies it to itself, once, while it has one thread, and cannot lift it again. What a kernel or container does
not offer is left out; `confinement` tells what is in force here.
"""

from app.confinement.grant import Grant
from app.confinement.measures import Confinement, confine, confinement
from app.confinement.start import start

__all__ = ["Confinement", "Grant", "confine", "confinement", "start"]
