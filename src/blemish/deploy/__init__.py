"""What a fitted detector can be handed to: other programs and libraries."""
