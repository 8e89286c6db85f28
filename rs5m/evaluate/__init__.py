"""The official evaluation: `rs5m evaluate`. Chapters: zeroshot, retrieval, selo."""
