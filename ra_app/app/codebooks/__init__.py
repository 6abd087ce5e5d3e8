"""The codebook: its format, its versions, and how leads edit it."""
