"""The book's own layer: scales, shared runs, figures, the scorecard."""
