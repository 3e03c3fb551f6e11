"""Hypothesis's profiles ``glupy-dev`` (quick), ``glupy-ci`` and ``glupy-long``.

``pytest --hypothesis-profile glupy-long``. Whoever imports Hypothesis has them.
"""

EXAMPLES = {"glupy-dev": 20, "glupy-ci": 100, "glupy-long": 10_000}
"""How many each profile has."""


def register() -> None:
    """Hypothesis calls this while it is being imported (entry point ``hypothesis`` in setup.cfg):
    this module must be there before it is."""
    from hypothesis import HealthCheck, settings  # noqa: PLC0415

    for name, examples in EXAMPLES.items():
        settings.register_profile(
            name, max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck)
        )
