//! The hold's state machine.
