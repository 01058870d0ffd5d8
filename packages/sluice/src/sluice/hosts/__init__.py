"""Adapters to the machine Sluice runs on: state folder, git mirror, env file, releases, time."""
