"""Words to the outside: alerts, and the statuses of commits."""
