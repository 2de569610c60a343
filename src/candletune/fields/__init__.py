"""One prompt field, one object.

Each module of this package with a `FIELD` is a prompt field, and `registry` finds them all: its columns (formula and
source), how its context keys are validated, how it is displayed, what may be said of it and which bounds make that
true, and what the baselines read of it. Contexts, the template check, the reasons' facts, the grounding checker and the
baselines' features are derived from these objects; none of them names a field. A new field is one new module here and
one line in the template.
"""
