"""What training works with: the state, the steps and the feed of batches."""
