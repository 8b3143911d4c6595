"""What a network scores on a split, and what a finished run reports."""
