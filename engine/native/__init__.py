"""What is written in C++ for a processor's own instructions, and its compilation on this machine."""
