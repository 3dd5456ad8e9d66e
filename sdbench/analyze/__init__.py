"""Why a condition wins: per-token advantages."""
