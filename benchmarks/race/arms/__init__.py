"""The contenders: ours, the paper's, and the peers."""
