"""The loop: sources, plans, claims, runs, doors; the one place that connects the rooms."""
