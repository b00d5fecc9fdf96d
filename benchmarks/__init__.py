"""Our models beside their peers, in alternating rounds of one process."""
