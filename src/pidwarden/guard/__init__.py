"""The resident loop, what hardens it, and the policy between alarm and proof."""
