"""Tables as float32 matrices and masks, and back; knows no torch."""
