"""The demo: draws its own pictures, so that the whole path can be tried without any download."""
