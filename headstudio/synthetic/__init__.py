"""A world of procedural heads with captions and ground truth: it trains the tiny prior and scores alignment."""
