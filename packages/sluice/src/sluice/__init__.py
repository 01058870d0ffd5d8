"""Sluice: takes a service from a feature branch through test to prod, gate by gate."""

__version__ = "0.1.0"
