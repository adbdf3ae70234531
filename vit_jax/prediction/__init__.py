"""Images by the thousand: which are meant, read ahead of the device, and what is said of them."""
