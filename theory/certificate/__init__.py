"""Certificates: what a target declares, each piece checked by a route that does not use the declaration."""
