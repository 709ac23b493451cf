"""Give it a picture, get what a Vision Transformer sees, and be able to look inside every step."""
