"""Which layer went wrong: every value of a model against float64, and against another runtime."""
