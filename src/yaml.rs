//! YAML with positions, and diagnostics that point into it
