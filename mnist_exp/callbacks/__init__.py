"""What happens around the training steps, a file each. Imports train and what lies below it."""
