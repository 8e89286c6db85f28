"""Records, shards, images and data sets. Chapter: data."""
