"""System calls by family: what is captured, what it says, how it is shown. Pure: events in, values and text out."""
