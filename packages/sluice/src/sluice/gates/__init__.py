"""Gates: what must hold before a step. Each is a verdict with evidence; none may judge a candidate by its own rules.

The policy comes from `policy_ref`, never from the candidate. Gates run beside each other, each timed.

Nothing is imported here: the scanner of the no-secrets gate is a process of its own, and would load all of it.
"""
