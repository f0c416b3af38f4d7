"""CordLesion: a BIDS App that segments multiple sclerosis lesions in spinal-cord MRI."""

__version__ = "0.1.0"
