"""Who finds the first wrong step of a rollout: one module a critic."""
