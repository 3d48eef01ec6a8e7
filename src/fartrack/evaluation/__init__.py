"""Data sets, measures, one-pass runs, peers and reports: how a tracker is compared with others."""
