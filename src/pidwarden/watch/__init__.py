"""Where families come from: sources that keep the same books in different ways, and the choice among them."""
