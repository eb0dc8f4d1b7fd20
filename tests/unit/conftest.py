"""No example is timed: how fast something is, benchmarks tell, and not a busy machine."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
